"""The short way to the caller of a request: its connection, for whoever answers by it and wants to hear of a leaving client.

ASGI's way is always open, too. It takes two writes for an answer, judges each header again, wants a task to be woken for each
piece of a stream, and tells who left only to a task that waits for it; an answer that took little work is mostly that.
`LimitedHttpProtocol` offers its connection in the scope under ASGI's own name for such things, `extensions`; another server does
not, and is answered by messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from infery_site.transport import ClientTransport

EXTENSION = "gateway.wire"


class Line:
    """One connection, for whichever request runs on it; `cycle` is what uvicorn knows of that one."""

    __slots__ = ("cycle", "flow", "is_lost", "on_leaving", "transport")

    def __init__(self, transport: ClientTransport, flow: FlowControl) -> None:
        self.transport = transport
        self.flow = flow
        self.is_lost = False
        self.on_leaving: Callable[[], None] | None = None
        self.cycle: RequestResponseCycle | None = None

    def lose(self) -> None:
        """The connection is gone, whatever runs on it and whatever waits behind that."""
        self.is_lost = True
        running, self.cycle = self.cycle, None  # whose scope leads back here
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        on_leaving, self.on_leaving = self.on_leaving, None
        if on_leaving is not None:
            on_leaving()


class Wire:
    """The connection as one request has it."""

    __slots__ = ("_cycle", "_line")

    def __init__(self, line: Line) -> None:
        self._line = line
        self._cycle = line.cycle

    async def answer(self, status: int, fields: bytes, body: bytes) -> None:
        """Sends the whole answer to anything but HEAD, at once. `fields` are header lines, `content-length` among them, `connection` not.

        Says nothing to who has left. Raises RuntimeError if the request was answered already.
        """
        line, cycle = self._line, self._cycle
        if line.flow.write_paused and not line.is_lost:
            await line.flow.drain()
        if line.is_lost or cycle is None:
            return
        if cycle.response_started:
            raise RuntimeError("the request is answered already")
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        common = b"".join([b"%s: %s\r\n" % field for field in cycle.default_headers])
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        line.transport.write_soon(b"".join((STATUS_LINE[status], common, fields, close, b"\r\n", body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            line.transport.close()
        cycle.on_response()

    def whole_body(self) -> bytes | None:
        """The body, if all of it has come; else it comes by messages, as it arrives. To be asked before any of those is."""
        cycle = self._cycle
        if cycle is None or cycle.more_body or cycle.waiting_for_100_continue or self._line.is_lost:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    @property
    def is_clear(self) -> bool:
        """Whether an answer that was begun by messages, in chunks, can go on by `push`: he is there, and takes what he is sent."""
        line, cycle = self._line, self._cycle
        return not line.is_lost and not line.flow.write_paused and cycle is not None and cycle.chunked_encoding is True

    def push(self, data: bytes) -> None:
        """Sends one more piece, which must not be empty, of an answer that was begun, while the way is clear."""
        self._line.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def watch(self, on_leaving: Callable[[], None]) -> None:
        """Calls once when the client leaves, or at once if it has. Whoever watches has the whole body: what follows it is read."""
        line = self._line
        if line.is_lost:
            on_leaving()
            return
        line.on_leaving = on_leaving
        line.flow.resume_reading()

    def unwatch(self, on_leaving: Callable[[], None]) -> None:
        """Takes back what was asked for, unless a later request has asked since."""
        if self._line.on_leaving == on_leaving:
            self._line.on_leaving = None


def wire_of(scope: Any) -> Wire | None:
    """The connection of a request that has just begun, if the server offers it."""
    line: Line | None = scope.get("extensions", {}).get(EXTENSION)
    return None if line is None else Wire(line)
