from __future__ import annotations

import asyncio
import ssl
import time

import httpx
import psutil
import pytest

from chat.upstream import Response, ResponseTooLargeError, Upstream, read_limited
from tests.fakes.raw import Peer, raw_server
from tests.unit.chat.upstream.sending import OK, STREAM_HEAD, post, send, serving

CLOSED_WITHIN_S = 0.25


class Watched:
    """A server that sends something or nothing, and tells when its connection was closed.

    With `reads=False` it takes nothing of the body, and sees nothing of a close, until it `may_read`.
    """

    def __init__(self, *sent: bytes, reads: bool = True) -> None:
        self._sent = sent
        self._reads = reads
        self.may_read = asyncio.Event()
        self.is_asked = asyncio.Event()
        self.closed_s: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def __call__(self, peer: Peer) -> None:
        await (peer.read_request() if self._reads else peer.read_head())
        await peer.send(*self._sent)
        self.is_asked.set()
        if not self._reads:
            await self.may_read.wait()
        self.closed_s.set_result(await peer.wait_closed())

    async def assert_closed_soon_after(self, left_s: float) -> None:
        async with asyncio.timeout(2):
            assert await self.closed_s - left_s < CLOSED_WITHIN_S


async def cancel(task: asyncio.Task[Response]) -> float:
    left_s = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return left_s


async def assert_no_socket_is_left(port: int) -> None:
    """Fail if this process keeps a connection to `port` open for longer than a close may take."""
    process = psutil.Process()
    deadline_s = time.monotonic() + CLOSED_WITHIN_S
    while any(connection.raddr and connection.raddr.port == port for connection in process.net_connections("tcp")):
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)


async def assert_no_slot_is_lost(upstream: Upstream) -> None:
    async with raw_server(serving(OK, [])) as server:
        responses = await asyncio.gather(*(send(upstream, server.url) for _ in range(4)))
        for response in responses:
            await response.aclose()


async def test_cancelled_before_the_answer(upstream: Upstream) -> None:
    watched = Watched()
    async with raw_server(watched) as server:
        task = asyncio.create_task(send(upstream, server.url))
        await watched.is_asked.wait()
        await watched.assert_closed_soon_after(await cancel(task))
    await assert_no_slot_is_lost(upstream)


async def test_cancelled_while_sending(upstream: Upstream) -> None:
    watched = Watched(reads=False)
    async with raw_server(watched) as server:
        task = asyncio.create_task(send(upstream, server.url, body=b"x" * 20_000_000))
        await watched.is_asked.wait()
        await asyncio.sleep(0.05)
        await cancel(task)
        await assert_no_socket_is_left(server.port)
        left_s = time.monotonic()
        watched.may_read.set()
        await watched.assert_closed_soon_after(left_s)
    await assert_no_slot_is_lost(upstream)


async def test_cancelled_in_the_stream(upstream: Upstream) -> None:
    watched = Watched(STREAM_HEAD, b"3\r\none\r\n")

    async def read_all() -> Response:
        response = await send(upstream, server.url)
        try:
            async for _ in response.stream:
                pass
        finally:
            await response.aclose()
        return response

    async with raw_server(watched) as server:
        task = asyncio.create_task(read_all())
        await watched.is_asked.wait()
        await asyncio.sleep(0.02)
        await watched.assert_closed_soon_after(await cancel(task))
    await assert_no_slot_is_lost(upstream)


@pytest.mark.parametrize("is_tls", [False, True])
async def test_closed_in_the_stream(upstream: Upstream, server_tls: ssl.SSLContext, *, is_tls: bool) -> None:
    watched = Watched(STREAM_HEAD, b"3\r\none\r\n")
    async with raw_server(watched, tls=server_tls if is_tls else None) as server:
        response = await send(upstream, server.url)
        assert await anext(aiter(response.stream)) == b"one"
        left_s = time.monotonic()
        await response.aclose()
        await response.aclose()
        await watched.assert_closed_soon_after(left_s)
    await assert_no_slot_is_lost(upstream)


async def test_stop_ends_what_is_open(upstream: Upstream) -> None:
    watched = Watched(STREAM_HEAD, b"3\r\none\r\n")
    async with raw_server(watched) as server:
        response = await send(upstream, server.url)
        parts = aiter(response.stream)
        assert await anext(parts) == b"one"
        reading = asyncio.ensure_future(anext(parts))
        await asyncio.sleep(0)
        left_s = time.monotonic()
        await upstream.stop()
        with pytest.raises(httpx.TransportError):
            await reading
        await watched.assert_closed_soon_after(left_s)


async def test_stop_does_not_wait_for_a_peer_that_reads_nothing(upstream: Upstream) -> None:
    watched = Watched(reads=False)
    async with raw_server(watched) as server:
        task = asyncio.create_task(send(upstream, server.url, body=b"x" * 20_000_000))
        await watched.is_asked.wait()
        await asyncio.sleep(0.05)
        async with asyncio.timeout(0.5):
            await upstream.stop()
        await assert_no_socket_is_left(server.port)
        with pytest.raises(httpx.TransportError):
            await task


async def test_started_again(upstream: Upstream) -> None:
    async with raw_server(serving(OK, [])) as server:
        await upstream.stop()
        await upstream.start()
        await upstream.start()
        assert await post(upstream, server.url) == b"{}"


async def test_too_long_an_answer_closes_its_connection(upstream: Upstream) -> None:
    watched = Watched(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", b"x" * 2_000)
    async with raw_server(watched) as server:
        response = await send(upstream, server.url)
        left_s = time.monotonic()
        with pytest.raises(ResponseTooLargeError):
            await read_limited(response, limit_bytes=1_000)
        await watched.assert_closed_soon_after(left_s)
    await assert_no_slot_is_lost(upstream)
