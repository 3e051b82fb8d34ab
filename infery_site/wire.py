"""The short way to the caller of a request: its connection, for an application that answers whole and wants to hear of a leaving client.

ASGI's way is always open, too. It takes two writes for an answer, judges each header again, and tells who left only to a
task that waits for it; an answer that took little work is mostly that. `LimitedHttpProtocol` offers its connection in the
scope under ASGI's own name for such things, `extensions`; another server does not, and is answered by messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

EXTENSION = "gateway.wire"


class Wire:
    """One connection. It carries one request at a time, and what is said here is about the one that runs."""

    __slots__ = ("_flow", "_on_leaving", "_transport", "cycle", "is_lost")

    def __init__(self, transport: asyncio.Transport, flow: FlowControl) -> None:
        self._transport = transport
        self._flow = flow
        self.is_lost = False
        self._on_leaving: Callable[[], None] | None = None
        self.cycle: RequestResponseCycle | None = None

    async def answer(self, status: int, fields: bytes, body: bytes) -> None:
        """Sends the whole answer to anything but HEAD, at once. `fields` are header lines, `content-length` among them, `connection` not.

        Says nothing to who has left. Raises RuntimeError if the request was answered already.
        """
        if self._flow.write_paused and not self.is_lost:
            await self._flow.drain()
        cycle = self.cycle
        if cycle is None or cycle.response_started:
            raise RuntimeError("the request is answered already")
        if self.is_lost:
            return
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        lines = b"".join([b"%s: %s\r\n" % field for field in cycle.default_headers])
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        self._transport.write(b"".join((STATUS_LINE[status], lines, fields, close, b"\r\n", body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self._transport.close()
        cycle.on_response()

    def watch(self, on_leaving: Callable[[], None]) -> None:
        """Calls once when the client leaves, or at once if it has. Whoever watches has the whole body: what follows it is read."""
        if self.is_lost:
            on_leaving()
            return
        self._on_leaving = on_leaving
        self._flow.resume_reading()

    def unwatch(self, on_leaving: Callable[[], None]) -> None:
        """Takes back what was asked for, unless a later request has asked since."""
        if self._on_leaving == on_leaving:
            self._on_leaving = None

    def lose(self) -> None:
        """The connection is gone."""
        self.is_lost = True
        on_leaving, self._on_leaving = self._on_leaving, None
        if on_leaving is not None:
            on_leaving()


def wire_of(scope: Any) -> Wire | None:
    """The connection of a request, if the server offers it."""
    wire: Wire | None = scope.get("extensions", {}).get(EXTENSION)
    return wire
