"""Which connections are used again, and how much of an answer is read before somebody wants it."""

from __future__ import annotations

import asyncio
import ssl
import time

import httpx
import pytest

from chat.upstream import Timeouts, Upstream, read_limited
from tests.fakes.raw import Peer, raw_server
from tests.unit.chat.upstream.sending import OK, STREAM_HEAD, post, send, serving


@pytest.mark.parametrize("more", [OK, b"HTTP/1.1 200 OK\r\n", b"what?"], ids=["answer", "half", "noise"])
async def test_what_nobody_asked_for_is_given_to_nobody(upstream: Upstream, more: bytes) -> None:
    async def say_too_much(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK + more)
        await peer.wait_closed()

    async with raw_server(say_too_much) as server:
        for _ in range(2):
            assert await post(upstream, server.url) == b"{}"
        assert server.connection_count == 2


async def test_a_peer_that_speaks_while_idle_is_not_asked_again(upstream: Upstream) -> None:
    async def speak_later(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        await asyncio.sleep(0.02)
        await peer.send(OK)
        await peer.wait_closed()

    async with raw_server(speak_later) as server:
        for _ in range(2):
            assert await post(upstream, server.url) == b"{}"
            await asyncio.sleep(0.1)
        assert server.connection_count == 2


async def test_interim_answers_without_end(upstream: Upstream) -> None:
    async def hint(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 2_000)
        await peer.wait_closed()

    async with raw_server(hint) as server:
        with pytest.raises(httpx.RemoteProtocolError, match="too long"):
            await send(upstream, server.url)


@pytest.mark.parametrize("is_tls", [False, True])
async def test_an_answer_that_nobody_reads_stays_with_the_peer(
    upstream: Upstream, server_tls: ssl.SSLContext, *, is_tls: bool
) -> None:
    sent_bytes = 0
    size_bytes = 20_000_000
    piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"

    async def pour(peer: Peer) -> None:
        nonlocal sent_bytes
        await peer.read_request()
        await peer.send(STREAM_HEAD)
        while sent_bytes < size_bytes:
            await peer.send(piece)
            sent_bytes += 65_536
        await peer.send(b"0\r\n\r\n")
        await peer.wait_closed()

    async with raw_server(pour, tls=server_tls if is_tls else None) as server:
        response = await send(upstream, server.url)
        while True:
            before = sent_bytes
            await asyncio.sleep(0.2)
            if sent_bytes == before:
                break
        assert sent_bytes < size_bytes
        received = 0
        async for part in response.stream:
            received += len(part)
        await response.aclose()
    assert received == sent_bytes >= size_bytes


async def test_what_is_idle_for_long_is_closed(client_tls: ssl.SSLContext) -> None:
    closed: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def wait(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        closed.set_result(await peer.wait_closed())

    upstream = Upstream(keepalive_s=0.05, ssl_context=client_tls)
    await upstream.start()
    async with raw_server(wait) as server:
        assert await post(upstream, server.url) == b"{}"
        async with asyncio.timeout(2):
            await closed
    await upstream.stop()


@pytest.mark.slow
async def test_each_exchange_of_a_connection_has_its_own_time(upstream: Upstream) -> None:
    """Limits that are over end nothing that has others, and those that are shorter than the last ones hold."""

    async def answer_late(peer: Peer) -> None:
        for delay_s in (0.0, 1.0, 9.0):
            await peer.read_request()
            await asyncio.sleep(delay_s)
            await peer.send(OK)

    short, long = Timeouts(connect_s=5, read_s=0.5, total_s=0.5), Timeouts(connect_s=9, read_s=9, total_s=9)
    async with raw_server(answer_late) as server:
        for timeouts in (short, long):
            answer = await send(upstream, server.url, timeouts=timeouts)
            assert await read_limited(answer, limit_bytes=100) == b"{}"
        begun_s = time.monotonic()
        with pytest.raises(httpx.ReadTimeout):
            await send(upstream, server.url, timeouts=short)
        assert time.monotonic() - begun_s < 6
        assert server.connection_count == 1


async def test_nothing_is_sent_on_a_connection_that_was_closed_in_the_moment_of_asking(upstream: Upstream) -> None:
    requests: list[bytes] = []
    async with raw_server(serving(OK, requests)) as server:
        assert await post(upstream, server.url) == b"{}"
        asking, stopping = asyncio.create_task(post(upstream, server.url)), asyncio.create_task(upstream.stop())
        with pytest.raises(httpx.ReadError, match="The gateway stops"):
            await asking
        await stopping
        await asyncio.sleep(0.05)
        assert len(requests) == 1
