"""The only socket to providers.

    pool.py        Upstream: starts, stops, bounds the number of open exchanges, keeps connections, routes each request
    connection.py  one HTTP/1.1 connection: a request, its streamed answer, every fault of it
    dialling.py    from an address to a connection; private addresses refused
    faults.py      what can go wrong, in httpx's exceptions
    messages.py    what goes out and what comes back; reading whole answers within a bound

Only this package and the sandbox import an HTTP library, so the names of httpx's exceptions that other rooms need are
given out here.

Invariants: one request is sent at most once; redirects, cookies, environment proxies and decompression are off; every
failure is an `httpx.TransportError` of exactly the kind httpx itself would raise.
"""

from __future__ import annotations

from httpx import (
    ConnectError,
    ConnectTimeout,
    LocalProtocolError,
    PoolTimeout,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    TimeoutException,
    TransportError,
    UnsupportedProtocol,
    WriteTimeout,
)

from chat.upstream.faults import was_sent
from chat.upstream.messages import Request, Response, ResponseTooLargeError, Timeouts, build_request, read_limited
from chat.upstream.pool import Upstream

__all__ = [
    "ConnectError",
    "ConnectTimeout",
    "LocalProtocolError",
    "PoolTimeout",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Request",
    "Response",
    "ResponseTooLargeError",
    "TimeoutException",
    "Timeouts",
    "TransportError",
    "UnsupportedProtocol",
    "Upstream",
    "WriteTimeout",
    "build_request",
    "read_limited",
    "was_sent",
]
