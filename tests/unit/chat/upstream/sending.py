"""What the tests of the upstream share: sending to a raw server, and the answers such a server gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from chat.upstream import Response, Timeouts, Upstream, build_request, read_limited
from tests.fakes.raw import Peer

HEADERS = (("content-type", "application/json"), ("authorization", "Bearer sk-upstream"), ("accept", "application/json"))
TIMEOUTS = Timeouts(connect_s=5, read_s=5, write_s=5)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


async def send(upstream: Upstream, url: str, *, body: bytes = b"{}", timeouts: Timeouts = TIMEOUTS) -> Response:
    return await upstream.send(build_request(url, headers=HEADERS, body=body, timeouts=timeouts, allow_private_address=True))


async def post(upstream: Upstream, url: str, *, body: bytes = b"{}") -> bytes:
    return await read_limited(await send(upstream, url, body=body), limit_bytes=1_000_000)


def serving(answer: bytes, requests: list[bytes]) -> Callable[[Peer], Awaitable[None]]:
    """Give `answer` to each request of a connection and note the request."""

    async def handle(peer: Peer) -> None:
        while request := await peer.read_request():
            requests.append(request)
            await peer.send(answer)

    return handle
