"""How connections to providers are made and kept.

aiohttp is pinned because `_get` and `_release`, its pool's two doors, are private; the tests of stale and of abandoned
connections fail when an upgrade changes them.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Awaitable
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.connector import Connection

from infery_site.addresses import is_public

if TYPE_CHECKING:
    from aiohttp import AddrInfoType
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.tracing import Trace


class ProviderConnector(aiohttp.TCPConnector):
    """A pool without stale and without lingering connections."""

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        """A pooled connection that its peer has not closed meanwhile.

        A close that arrived while the loop was busy is not yet known to the transport. The socket knows: an idle
        connection has nothing to read.

        A long answer that was read slowly leaves its timer running: aiohttp starts it again when the last of what was
        buffered is taken, and it then fails whoever has the connection next.
        """
        while (connection := await super()._get(key, traces)) is not None:
            protocol, transport = connection.protocol, connection.transport
            if protocol is not None and not protocol.should_close and not _is_readable(transport):
                protocol.read_timeout = None
                protocol.start_timeout()
                return connection
            connection.close()
        return None

    def _close(self, *, abort_ssl: bool = False) -> list[Awaitable[object]]:
        """Abort what is still in use, for the same reason as `_release`."""
        for protocol in self._acquired:
            protocol.abort()
        return super()._close(abort_ssl=abort_ssl)

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        """Abort what does not go back to the pool.

        A plain close would first wait for unsent bytes of the body, or for the peer's TLS goodbye: a peer that reads
        nothing could keep the connection of a cancelled request open for ever.
        """
        if should_close or protocol.should_close:
            protocol.abort()
        super()._release(key, protocol, should_close=should_close)


def _is_readable(transport: asyncio.Transport | None) -> bool:
    """True if there is something to read, or an end."""
    if transport is None:
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLHUP)
    return bool(poll.poll(0))


def public_socket(info: AddrInfoType) -> socket.socket:
    """A socket for one address about to be dialled, names and literals alike. Raises OSError if it is not public."""
    family, kind, protocol, _, address = info
    host = str(address[0])
    if not is_public(host):
        raise OSError(errno.EACCES, f"{host} is not a public address and the provider does not allow private ones")
    return socket.socket(family, kind, protocol)
