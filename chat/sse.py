"""Server-sent events on bytes: an incremental decoder for what providers send, and the frames we send ourselves (pure).

Invariants: lines end at LF, CR LF or CR and nowhere else (U+2028, U+2029 and U+0085 are legal inside JSON strings, so
text functions that split lines would break events apart); how the bytes were cut into reads never changes the events;
memory is bounded by the two limits whatever the peer sends. The content of `data` is not looked at.
"""

from __future__ import annotations

import msgspec

LINE_LIMIT_BYTES = 1024 * 1024
EVENT_LIMIT_BYTES = 2 * 1024 * 1024

COMMENT = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
DONE_DATA = b"[DONE]"

_BOM = b"\xef\xbb\xbf"
_CR = 13


class SseError(ValueError):
    """A line or an event is longer than its limit. The stream cannot be decoded any further."""


class Event(msgspec.Struct, frozen=True, gc=False):
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
        "_is_at_rest",
        "_line",
        "_max_event_bytes",
        "_max_line_bytes",
        "_plain_line_bytes",
        "_size",
    )

    def __init__(self, max_line_bytes: int = LINE_LIMIT_BYTES, max_event_bytes: int = EVENT_LIMIT_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._max_event_bytes = max_event_bytes
        self._plain_line_bytes = min(max_line_bytes, max_event_bytes)  # so long a line breaks neither limit
        self._bom: bytes | None = b""
        self._is_after_cr = False
        self._is_at_rest = False  # Whether the next byte begins an event, and nothing that came before matters to it.
        self._line = bytearray()
        self._event = "message"
        self._data: bytes | bytearray | None = None
        self._size = 0
        self._error: SseError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """The events completed by these bytes. Raises SseError (see the class)."""
        # What most reads are: one whole event of one `data: ` line.
        if (
            self._is_at_rest
            and data.count(b"\n") == 2
            and data.endswith(b"\n\n")
            and data.startswith(b"data: ")
            and _CR not in data
            and len(data) <= self._plain_line_bytes
        ):
            return [Event("message", data[6:-2])]
        self._is_at_rest = False
        events = self._walk(data)
        self._is_at_rest = (
            not (self._line or self._is_after_cr)
            and self._data is None
            and self._event == "message"
            and self._bom is None
            and self._error is None
        )
        return events

    def _walk(self, data: bytes) -> list[Event]:
        if self._error is not None:
            raise self._error
        if self._bom is not None:
            data = self._without_bom(data)
        if self._is_after_cr and data:
            self._is_after_cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if _CR in data:
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
            if rest:
                self._begin_line(rest)
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
        plain, data = self._plain_line_bytes, self._data
        for line in lines:
            if not line:
                if data is not None:
                    events.append(Event(self._event, bytes(data)))
                    self._data = data = None
                    self._size = 0
                self._event = "message"
            elif data is None and len(line) <= plain and line.startswith(b"data: "):
                self._data = data = line[6:]
                self._size = len(data) + 1
            else:
                if len(line) > self._max_line_bytes:
                    raise self._line_error()
                self._take_field(line)
                data = self._data

    def _begin_line(self, part: bytes) -> None:
        self._line += part
        if len(self._line) > self._max_line_bytes:
            raise self._line_error()

    def _take_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._add(value.removeprefix(b" "))
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
