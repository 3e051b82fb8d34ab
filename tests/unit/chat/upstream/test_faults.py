from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import httpx
import pytest

from chat.upstream import Timeouts, Upstream, build_request, read_limited, was_sent
from chat.upstream.connection import Connection
from chat.upstream.dialling import AddressInfo, Dialler, place
from tests.fakes.raw import Peer, raw_server

HEADERS = (("content-type", "application/json"),)
TIMEOUTS = Timeouts(connect_s=0.3, read_s=0.3, write_s=0.3, pool_s=0.1)
LENGTH_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def answer_nothing(peer: Peer) -> None:
    await peer.read_request()
    await peer.wait_closed()


async def stop_in_body(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(LENGTH_HEAD, b"part")
    await peer.wait_closed()


async def close_at_once(peer: Peer) -> None:
    await peer.read_request()


async def close_in_head(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-le")


async def reset_at_once(peer: Peer) -> None:
    await peer.read_request()
    await peer.reset()


async def cut_length(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(LENGTH_HEAD, b"part")


async def cut_chunked(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(CHUNKED_HEAD, b"4\r\npart\r\n")


async def cut_in_chunk(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(CHUNKED_HEAD, b"40\r\npart")


async def reset_length(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(LENGTH_HEAD, b"part")
    await peer.reset()


async def reset_chunked(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(CHUNKED_HEAD, b"4\r\npart\r\n")
    await peer.reset()


async def bad_status_line(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b"SMTP 220 hello\r\n\r\n")
    await peer.wait_closed()


async def bad_chunk(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(CHUNKED_HEAD, b"zz\r\npart\r\n0\r\n\r\n")
    await peer.wait_closed()


async def huge_header(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b"HTTP/1.1 200 OK\r\nx-large: ", b"x" * 300_000, b"\r\ncontent-length: 0\r\n\r\n")
    await peer.wait_closed()


class Fault(NamedTuple):
    handle: Callable[[Peer], Awaitable[None]]
    kind: type[httpx.TransportError]
    httpx_kind: type[httpx.TransportError]
    """What httpx's own transport raises. A peer's FIN and RST race in both libraries, so policy treats them as one."""


FAULTS = [
    Fault(answer_nothing, httpx.ReadTimeout, httpx.ReadTimeout),
    Fault(stop_in_body, httpx.ReadTimeout, httpx.ReadTimeout),
    Fault(close_at_once, httpx.RemoteProtocolError, httpx.RemoteProtocolError),
    Fault(close_in_head, httpx.RemoteProtocolError, httpx.RemoteProtocolError),
    Fault(reset_at_once, httpx.ReadError, httpx.ReadError),
    Fault(cut_length, httpx.RemoteProtocolError, httpx.RemoteProtocolError),
    Fault(cut_chunked, httpx.RemoteProtocolError, httpx.RemoteProtocolError),
    Fault(cut_in_chunk, httpx.RemoteProtocolError, httpx.RemoteProtocolError),
    Fault(reset_length, httpx.ReadError, httpx.ReadError),
    Fault(reset_chunked, httpx.ReadError, httpx.ReadError),
    Fault(bad_status_line, httpx.RemoteProtocolError, httpx.RemoteProtocolError),
    Fault(bad_chunk, httpx.RemoteProtocolError, httpx.RemoteProtocolError),
    Fault(huge_header, httpx.RemoteProtocolError, httpx.RemoteProtocolError),
]
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.handle.__name__)


async def post(upstream: Upstream, url: str, *, body: bytes = b"{}", headers: tuple[tuple[str, str], ...] = HEADERS) -> bytes:
    request = build_request(url, headers=headers, body=body, timeouts=TIMEOUTS, allow_private_address=True)
    return await read_limited(await upstream.send(request), limit_bytes=1_000_000)


@each_fault
async def test_after_the_request_was_sent(upstream: Upstream, fault: Fault) -> None:
    async with raw_server(fault.handle) as server:
        with pytest.raises(httpx.TransportError) as caught:
            await post(upstream, server.url)
    assert type(caught.value) is fault.kind
    assert was_sent(caught.value)
    assert server.connection_count == 1


@each_fault
async def test_httpx_itself(client_tls: ssl.SSLContext, fault: Fault) -> None:
    timeout = {"connect": 0.3, "read": 0.3, "write": 0.3, "pool": 0.3}
    async with raw_server(fault.handle) as server, httpx.AsyncHTTPTransport(client_tls, trust_env=False) as transport:
        request = httpx.Request("POST", server.url, content=b"{}", extensions={"timeout": timeout})
        with pytest.raises(httpx.TransportError) as caught:
            await (await transport.handle_async_request(request)).aread()
    assert type(caught.value) is fault.httpx_kind


async def test_refused(upstream: Upstream) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(httpx.ConnectError) as caught:
            await post(upstream, f"http://127.0.0.1:{bound.getsockname()[1]}/")
    assert not was_sent(caught.value)


async def test_unknown_name(client_tls: ssl.SSLContext) -> None:
    asked: list[tuple[str, int]] = []

    async def fail(host: str, port: int) -> list[AddressInfo]:
        asked.append((host, port))
        raise socket.gaierror(-2, "Name or service not known")

    dialler = Dialler(client_tls, lambda connection: None, fail)
    for _ in range(2):
        with pytest.raises(httpx.ConnectError, match=r"nowhere\.invalid: .*not known") as caught:
            await dialler.dial(place("https://nowhere.invalid/v1", is_private_allowed=True).origin, connect_s=1)
        assert not was_sent(caught.value)
    assert asked == [("nowhere.invalid", 443)] * 2  # a failure is not kept


async def test_a_name_is_looked_up_once(client_tls: ssl.SSLContext) -> None:
    asked: list[str] = []
    lost: list[Connection] = []

    async def find(host: str, port: int) -> list[AddressInfo]:
        asked.append(host)
        await asyncio.sleep(0.01)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    async with raw_server(answer_nothing) as server:
        origin = place(f"http://provider.example:{server.port}/v1", is_private_allowed=True).origin
        dialler = Dialler(client_tls, lost.append, find)
        connections = await asyncio.gather(*(dialler.dial(origin, connect_s=1) for _ in range(3)))
        connections.append(await dialler.dial(origin, connect_s=1))
        for connection in connections:
            connection.abort()
        await asyncio.sleep(0.05)
    assert asked == ["provider.example"]
    assert set(lost) == set(connections)


async def test_impossible_name(upstream: Upstream) -> None:
    with pytest.raises(httpx.LocalProtocolError) as caught:
        await post(upstream, f"http://{'x' * 64}.localhost/")
    assert not was_sent(caught.value)


async def test_no_tls_on_the_other_side(upstream: Upstream) -> None:
    async def speak_plain(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with raw_server(speak_plain) as server:
        with pytest.raises(httpx.ConnectError) as caught:
            await post(upstream, server.url.replace("http:", "https:"))
    assert not was_sent(caught.value)


async def test_certificate_of_nobody(server_tls: ssl.SSLContext) -> None:
    upstream = Upstream()
    await upstream.start()
    async with raw_server(answer_nothing, tls=server_tls) as server:
        with pytest.raises(httpx.ConnectError, match="certificate") as caught:
            await post(upstream, server.url)
    assert not was_sent(caught.value)
    await upstream.stop()


async def test_connecting_takes_too_long(upstream: Upstream) -> None:
    async def shake_no_hands(peer: Peer) -> None:
        await peer.wait_closed()

    async with raw_server(shake_no_hands) as server:
        with pytest.raises(httpx.ConnectTimeout) as caught:
            await post(upstream, server.url.replace("http:", "https:"))
    assert not was_sent(caught.value)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "127.0.0.1/v1", "/v1", "", "ws://127.0.0.1:1/", "http://", "http:///v1"])
async def test_unsupported_address(upstream: Upstream, url: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol) as caught:
        await post(upstream, url)
    assert not was_sent(caught.value)


@pytest.mark.parametrize("value", ["Bearer sk\nx-evil: 1", "Bearer sk\r", "Bearer sk\0"])
async def test_header_that_cannot_be_sent(upstream: Upstream, value: str) -> None:
    async with raw_server(answer_nothing) as server:
        with pytest.raises(httpx.LocalProtocolError) as caught:
            await post(upstream, server.url, headers=(("authorization", value),))
    assert not was_sent(caught.value)


async def test_pool_is_full(upstream: Upstream) -> None:
    async with raw_server(stop_in_body) as server:
        request = build_request(server.url, headers=HEADERS, body=b"{}", timeouts=TIMEOUTS, allow_private_address=True)
        responses = [await upstream.send(request) for _ in range(4)]
        with pytest.raises(httpx.PoolTimeout) as caught:
            await upstream.send(request)
        assert not was_sent(caught.value)
        waiting = asyncio.create_task(upstream.send(request))
        await asyncio.sleep(0)
        await responses.pop().aclose()
        responses.append(await waiting)
        for response in responses:
            await response.aclose()


async def test_peer_stops_reading(upstream: Upstream) -> None:
    timed_out = asyncio.Event()
    taken: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def read_only_the_head(peer: Peer) -> None:
        await peer.read_head()
        await timed_out.wait()
        await peer.wait_closed()
        taken.set_result(peer.discarded_bytes)

    async with raw_server(read_only_the_head) as server:
        with pytest.raises(httpx.WriteTimeout) as caught:
            await post(upstream, server.url, body=b"x" * 20_000_000)
        assert was_sent(caught.value)
        timed_out.set()
        async with asyncio.timeout(1):
            assert await taken < 20_000_000


async def test_before_the_start() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        await post(Upstream(), "http://127.0.0.1/")
