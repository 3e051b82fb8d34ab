"""Server-sent events on bytes: an incremental decoder for what providers send, and the frames we send ourselves (pure).

Invariants: lines end at LF, CR LF or CR and nowhere else (U+2028, U+2029 and U+0085 are legal inside JSON strings, so
text functions that split lines would break events apart); how the bytes were cut into reads never changes the events;
memory is bounded by the two limits whatever the peer sends. The content of `data` is not looked at.
"""

from __future__ import annotations

from typing import NamedTuple

LINE_LIMIT_BYTES = 1024 * 1024
EVENT_LIMIT_BYTES = 2 * 1024 * 1024

COMMENT = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
DONE_DATA = b"[DONE]"

_BOM = b"\xef\xbb\xbf"
_COLON = 0x3A


class SseError(ValueError):
    """A line or an event is longer than its limit. The stream cannot be decoded any further."""


class Event(NamedTuple):
    """One event. `event` is its name, `message` when the sender gave none."""

    event: str
    data: bytes


def frame(data: bytes) -> bytes:
    """One event with `data`, which must hold no line end (a JSON encoder writes none)."""
    return b"data: " + data + b"\n\n"


class SseDecoder:
    """Turns the body of one `text/event-stream` response into events, as WHATWG's HTML standard defines them.

    `id`, `retry`, unknown fields and comments are ignored. When a limit is broken, the events that came before are
    still returned and the next call raises `SseError`, so that the result does not depend on where reads were cut.
    """

    __slots__ = (
        "_bom",
        "_data",
        "_error",
        "_event",
        "_is_after_cr",
        "_line",
        "_max_event_bytes",
        "_max_line_bytes",
        "_size",
    )

    def __init__(self, max_line_bytes: int = LINE_LIMIT_BYTES, max_event_bytes: int = EVENT_LIMIT_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._max_event_bytes = max_event_bytes
        self._bom: bytes | None = b""
        self._is_after_cr = False
        self._line = bytearray()
        self._event = "message"
        self._data: bytes | bytearray | None = None
        self._size = 0
        self._error: SseError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """The events completed by these bytes. Raises SseError (see the class)."""
        if self._error is not None:
            raise self._error
        if self._bom is not None:
            data = self._without_bom(data)
        if self._is_after_cr and data:
            self._is_after_cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if b"\r" in data:
            self._is_after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        rest = lines.pop()
        if self._line and lines:
            self._line += lines[0]
            lines[0] = bytes(self._line)
            self._line.clear()
        events: list[Event] = []
        try:
            self._take(lines, events)
            self._line += rest
            if len(self._line) > self._max_line_bytes:
                raise self._line_error()
        except SseError as error:
            self._error = error
            if not events:
                raise
        return events

    def flush(self) -> list[Event]:
        """The last event of a body that ended without its blank line. Raises SseError (see the class)."""
        if self._error is not None:
            raise self._error
        rest = bytes(self._bom or b"") + bytes(self._line)
        self._bom = None
        self._line.clear()
        events: list[Event] = []
        self._take([rest, b""] if rest else [b""], events)
        return events

    def _take(self, lines: list[bytes], events: list[Event]) -> None:
        """Walk whole lines. The usual event, one `data: ` line and a blank one, never leaves this loop."""
        limit = self._max_line_bytes
        for line in lines:
            if len(line) > limit:
                raise self._line_error()
            if not line:
                if self._data is not None:
                    events.append(Event(self._event, bytes(self._data)))
                    self._data = None
                    self._size = 0
                self._event = "message"
            elif line.startswith(b"data: "):
                self._add(line[6:])
            elif line[0] != _COLON:
                self._take_field(line)

    def _take_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._add(value)
        elif name == b"event":
            self._event = value.removeprefix(b" ").decode("utf-8", "replace") or "message"

    def _add(self, value: bytes) -> None:
        """Append one data line. Its length is counted with its line end, so that empty lines are not free."""
        self._size += len(value) + 1
        if self._size > self._max_event_bytes:
            raise SseError(f"An event is longer than {self._max_event_bytes} bytes.")
        if self._data is None:
            self._data = value
        else:
            if not isinstance(self._data, bytearray):
                self._data = bytearray(self._data)
            self._data += b"\n"
            self._data += value

    def _without_bom(self, data: bytes) -> bytes:
        """Drop a byte order mark at the very start; hold bytes back while they may still become one."""
        start = (self._bom or b"") + data
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._bom = start
            return b""
        self._bom = None
        return start.removeprefix(_BOM)

    def _line_error(self) -> SseError:
        return SseError(f"A line is longer than {self._max_line_bytes} bytes.")
