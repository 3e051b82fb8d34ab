"""The transport of a client's connection: how it is written to in turns, and how it is closed while the client may still send.

A write wakes whoever reads. Where that is a process of this machine, such as a proxy in front, waking it costs as much as all
else the write does, and nothing while it is still awake from the last one. So the whole answers that become ready in one turn
of the loop are sent one behind the other in the next.

A socket that is closed while bytes lie in it unread is reset by the system, and with the reset a client loses the answer it has
not read yet: the refusal of a large body would reach it as a broken connection. So only our half is closed, and what comes is
thrown away until the client closes the other, or has had its time (RFC 9112, 9.6). Under another server than ours, or where that
one speaks TLS itself, there is no such half, and the connection is closed at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from django.conf import settings


class ClientTransport:
    """The transport of one connection, with what uvicorn and this room use of it.

    `may_be_sending` tells whether the client may have more to send; `on_close` is called at each close, while the connection
    is still there. Who still has not closed its half CLIENT_LINGER_S after ours was is not waited for.
    """

    __slots__ = ("_loop", "_may_be_sending", "_on_close", "_overdue", "_transport", "_waiting", "get_extra_info")

    def __init__(
        self, transport: asyncio.Transport, may_be_sending: Callable[[], bool], on_close: Callable[[], object]
    ) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._may_be_sending = may_be_sending
        self._on_close = on_close
        self._overdue: asyncio.TimerHandle | None = None
        self._waiting = b""
        self.get_extra_info = transport.get_extra_info

    def write(self, data: bytes) -> None:
        if self._waiting:
            self._send_waiting()
        self._transport.write(data)

    def write_soon(self, data: bytes) -> None:
        """Sends it in the next turn of the loop, or before whatever is written or closed until then."""
        if not self._waiting:
            self._loop.call_soon(self._send_waiting)
        self._waiting += data

    def get_write_buffer_size(self) -> int:
        return len(self._waiting) + self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Sends what is written and the end behind it. Whoever closes again does not wait for the client any more."""
        self._send_waiting()
        transport = self._transport
        if self.is_closing() or not self._may_be_sending() or not transport.can_write_eof():
            transport.close()
        else:
            transport.write_eof()
            transport.resume_reading()
            self._overdue = self._loop.call_later(settings.CLIENT_LINGER_S, self.close)
        self._on_close()

    def abort(self) -> None:
        self._waiting = b""
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._overdue is not None or self._transport.is_closing()

    def forget(self) -> None:
        """The connection is gone, and so is whoever made this: it is not kept by it until the garbage collector comes."""
        self._waiting = b""
        self._may_be_sending = self._on_close = bool
        if self._overdue is not None:
            self._overdue.cancel()

    def _send_waiting(self) -> None:
        data, self._waiting = self._waiting, b""
        if data and not self.is_closing():
            self._transport.write(data)
