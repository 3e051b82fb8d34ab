"""What can go wrong between us and a provider, in httpx's exceptions.

The kind decides the policy: nothing was sent (another target may be tried freely), or the provider may have worked.
`RemoteProtocolError` and `ReadError` mean the same to a caller: a peer that closes while our body is unread answers
with a reset, and then it is chance which of the two is seen.
"""

from __future__ import annotations

import aiohttp
import httpx

# The first match counts: subclasses stand before their parents.
_KINDS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.ClientError, httpx.ReadError),
    (OSError, httpx.ReadError),
    (ValueError, httpx.LocalProtocolError),
)

# What `exchange` turns into an httpx exception; a ValueError is a header or address that cannot be put on the wire.
FAULTS = (aiohttp.ClientError, OSError, ValueError)

_NOTHING_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)


def as_httpx_error(error: Exception) -> httpx.TransportError:
    """The httpx exception for one of `FAULTS`."""
    kind = next(kind for source, kind in _KINDS if isinstance(error, source))
    return kind(str(error) or type(error).__name__)


def was_sent(error: httpx.TransportError) -> bool:
    """False if the provider cannot have seen any of the request."""
    return not isinstance(error, _NOTHING_SENT)
