"""What can go wrong between us and a provider, in httpx's exceptions.

The kind decides the policy: nothing was sent (another target may be tried freely), or the provider may have worked.
`RemoteProtocolError` and `ReadError` mean the same to a caller: a peer that closes while our body is unread answers
with a reset, and then it is chance which of the two is seen.
"""

from __future__ import annotations

import httpx

_NOTHING_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)


def was_sent(error: httpx.TransportError) -> bool:
    """False if the provider cannot have seen any of the request."""
    return not isinstance(error, _NOTHING_SENT)
