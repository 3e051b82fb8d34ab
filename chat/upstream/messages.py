"""What goes to a provider and what comes back: httpx's names, without httpx's cost.

An httpx.Request and an httpx.Response cost 20 to 25 us of CPU in each exchange, a third of the exchange itself, for
copies of headers and addresses that nobody looks at here. Whoever wants httpx's view of the headers still gets it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterable, Callable, Sequence
from typing import NamedTuple

import httpx
import msgspec

from chat.upstream.connection import Connection

_OUR_HEADERS = (("accept-encoding", "identity"), ("user-agent", "infery"))


class Timeouts(NamedTuple):
    """Limits of one exchange in seconds. `read_s` is the longest silence, also between two reads of a stream.

    `connect_s` covers looking up the name, connecting and TLS; `write_s` is the longest time in which the peer takes
    nothing of a long body; `pool_s` is the longest wait for a free slot of this process. `total_s` is the longest time for all
    of it, up to the last byte of the answer; the sandbox, which answers at once or within `read_s`, needs none.
    """

    connect_s: float
    read_s: float
    write_s: float = 60.0
    pool_s: float = 5.0
    total_s: float = math.inf


class Request(msgspec.Struct, frozen=True, gc=False):
    """A POST of `body`. `Host` and `Content-Length` are added when it is sent; made by `build_request`."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    timeouts: Timeouts
    allow_private_address: bool

    def __repr__(self) -> str:
        return f"Request(url={self.url!r}, body_bytes={len(self.body)})"


def build_request(
    url: str,
    *,
    headers: tuple[tuple[str, str], ...],
    body: bytes,
    timeouts: Timeouts,
    allow_private_address: bool = False,
) -> Request:
    """A request with the headers that are the same for all providers: no compression, and our name.

    `allow_private_address` is the provider's permission to be at an address that is not public. What cannot be sent,
    such as a header with a line end, is refused by `Upstream.send`.
    """
    return Request(url, headers + _OUR_HEADERS, body, timeouts, allow_private_address)


class Response:
    """The head of an answer, and its body in `stream`: one item for each read, not decompressed, not decoded.

    Whoever gets one must `aclose()` it. Closed before the end of its body, it closes the connection at once.
    """

    def __init__(
        self,
        status_code: int,
        headers: Sequence[tuple[bytes, bytes]],
        stream: httpx.AsyncByteStream,
        connection: Connection | None = None,
    ) -> None:
        self.status_code = status_code
        self.raw_headers = headers
        self._stream = stream
        self._connection = connection

    @functools.cached_property
    def headers(self) -> httpx.Headers:
        """The headers as httpx gives them: a mapping that does not mind upper and lower case."""
        return httpx.Headers(list(self.raw_headers))

    @property
    def stream(self) -> AsyncIterable[bytes]:
        """The body as it arrives, to be iterated over once. Raises httpx.TransportError where it breaks."""
        return self._stream

    def limit_silence(self, read_s: float) -> None:
        """From here on the longest silence is this one, not the request's. The sandbox never pauses for long in its stream."""
        if self._connection is not None:
            self._connection.limit_silence(read_s)

    async def flow(self, take: Callable[[bytes], bool]) -> None:
        """Give what comes to `take` in the moment it comes, until it says False or something has to be waited for.

        What was not given comes from `stream` as before: all, where the sandbox answers.
        """
        if self._connection is not None:
            await self._connection.flow(take)

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end, else close it. May be called again."""
        await self._stream.aclose()


class ResponseTooLargeError(Exception):
    """A whole answer is longer than its limit; the connection was closed."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The answer is longer than {limit_bytes} bytes.")
        self.limit_bytes = limit_bytes


async def read_limited(response: Response, *, limit_bytes: int) -> bytes:
    """The whole body, and the response closed. Raises ResponseTooLargeError and httpx.TransportError."""
    parts: list[bytes] = []
    size_bytes = 0
    try:
        async for part in response.stream:
            size_bytes += len(part)
            if size_bytes > limit_bytes:
                raise ResponseTooLargeError(limit_bytes)
            parts.append(part)
    finally:
        await response.aclose()
    return b"".join(parts)
