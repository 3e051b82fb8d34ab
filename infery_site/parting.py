"""How a connection is closed while its client may still be sending.

A socket that is closed while bytes lie in it unread is reset by the system, and with the reset a client loses the answer it has
not read yet: the refusal of a large body would reach it as a broken connection. So only our half is closed, and what comes is
thrown away until the client closes the other, or has had its time (RFC 9112, 9.6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from django.conf import settings


class PartingTransport:
    """The transport of one connection as uvicorn uses it; all but `close` and `is_closing` is the transport's own.

    `may_follow` tells whether the client may be sending; `on_overdue` is called if it has not closed CLIENT_LINGER_S after we did.
    """

    __slots__ = (
        "_may_follow",
        "_on_overdue",
        "_overdue",
        "_transport",
        "abort",
        "get_extra_info",
        "get_write_buffer_size",
        "write",
    )

    def __init__(self, transport: asyncio.Transport, may_follow: Callable[[], bool], on_overdue: Callable[[], None]) -> None:
        self._transport = transport
        self._may_follow = may_follow
        self._on_overdue = on_overdue
        self._overdue: asyncio.TimerHandle | None = None
        self.write = transport.write
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size

    def close(self) -> None:
        """Sends what is written and the end behind it. Whoever closes again does not wait for the client any more."""
        transport = self._transport
        if self.is_closing() or not self._may_follow() or not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        transport.resume_reading()
        self._overdue = asyncio.get_running_loop().call_later(settings.CLIENT_LINGER_S, self._on_overdue)

    def is_closing(self) -> bool:
        return self._overdue is not None or self._transport.is_closing()

    def forget(self) -> None:
        """The connection is gone."""
        if self._overdue is not None:
            self._overdue.cancel()
