from __future__ import annotations

import asyncio
import ssl
import time

import httpx
import pytest

from chat.upstream import Timeouts, Upstream, build_request, read_limited
from chat.upstream.messages import Request
from tests.fakes.launch import FakeProvider
from tests.fakes.raw import Peer, raw_server
from tests.fakes.script import Script
from tests.unit.chat.upstream.sending import HEADERS, OK, STREAM_HEAD, TIMEOUTS, post, send, serving


async def _whole(upstream: Upstream, request: Request) -> bytes:
    return await read_limited(await upstream.send(request), limit_bytes=1_000)


async def chat(upstream: Upstream, fake_provider: FakeProvider, body: bytes = b'{"model": "m", "messages": []}') -> bytes:
    return await post(upstream, f"{fake_provider.base_url}/chat/completions", body=body)


async def test_what_goes_over_the_wire(upstream: Upstream) -> None:
    requests: list[bytes] = []
    async with raw_server(serving(OK, requests)) as server:
        assert await post(upstream, server.url, body=b'{"model": "m"}') == b"{}"
    head, _, body = requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert sorted(line.lower() for line in lines[1:]) == [
        "accept-encoding: identity",
        "accept: application/json",
        "authorization: bearer sk-upstream",
        "content-length: 14",
        "content-type: application/json",
        f"host: 127.0.0.1:{server.port}",
        "user-agent: infery",
    ]
    assert body == b'{"model": "m"}'


async def test_the_address_is_sent_as_it_is(upstream: Upstream) -> None:
    requests: list[bytes] = []
    async with raw_server(serving(OK, requests)) as server:
        await post(upstream, f"http://127.0.0.1:{server.port}/a%2Fb/%7Ec?api-version=2024-10-21&x=a+b")
    assert requests[0].startswith(b"POST /a%2Fb/%7Ec?api-version=2024-10-21&x=a+b HTTP/1.1\r\n")


async def test_what_comes_back(upstream: Upstream) -> None:
    answer = b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nx-a: 1\r\nX-A: 2\r\ncontent-length: 4\r\n\r\nslow"
    async with raw_server(serving(answer, [])) as server:
        response = await send(upstream, server.url)
        assert response.status_code == 429
        assert response.headers["retry-after"] == "7"
        assert response.headers.get_list("x-a") == ["1", "2"]
        assert await read_limited(response, limit_bytes=4) == b"slow"


async def test_one_connection_serves_many_requests(upstream: Upstream, fake_provider: FakeProvider) -> None:
    for _ in range(3):
        await chat(upstream, fake_provider)
    assert len({seen.connection for seen in fake_provider.requests()}) == 1


async def test_a_connection_closed_by_its_peer_is_not_used_again(upstream: Upstream, fake_provider: FakeProvider) -> None:
    fake_provider.script("m", Script(closes=True))
    for _ in range(3):
        await chat(upstream, fake_provider)
        time.sleep(0.05)  # noqa: ASYNC251 - the loop is busy, so it cannot learn of the close
    assert len({seen.connection for seen in fake_provider.requests()}) == 3


@pytest.mark.slow
async def test_a_long_answer_read_slowly_does_not_fail_the_next_one(upstream: Upstream, fake_provider: FakeProvider) -> None:
    """Its read limit passes while the connection is back in the pool."""
    fake_provider.script("m", Script(body=b"x" * 2_000_000), Script())
    url = f"{fake_provider.base_url}/chat/completions"
    response = await send(upstream, url, body=b'{"model": "m"}', timeouts=Timeouts(connect_s=5, read_s=0.3))
    await asyncio.sleep(0.1)
    async for _ in response.stream:
        await asyncio.sleep(0.1)
    await response.aclose()
    await asyncio.sleep(0.4)
    await chat(upstream, fake_provider)


@pytest.mark.parametrize("at_once", [20, 60], ids=["head", "body"])
async def test_an_answer_that_only_drips_ends_with_its_time(upstream: Upstream, at_once: int) -> None:
    """No silence of it is long."""
    whole = b"HTTP/1.1 200 OK\r\nx-a: bcdefgh\r\ncontent-length: 30\r\n\r\n" + b"x" * 30

    async def drip(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(whole[:at_once])
        for place in range(at_once, len(whole)):
            await asyncio.sleep(0.1)
            await peer.send(whole[place : place + 1])

    async with raw_server(drip) as server:
        started_s = time.monotonic()
        request = build_request(
            server.url, headers=HEADERS, body=b"{}", timeouts=Timeouts(5, 5, total_s=0.5), allow_private_address=True
        )
        with pytest.raises(httpx.ReadTimeout):
            await _whole(upstream, request)
        assert 0.45 < time.monotonic() - started_s < 2


async def test_a_byte_in_each_turn_of_a_busy_loop_does_not_outrun_the_time(upstream: Upstream) -> None:
    """What is ready in a turn is read before a timer of that turn is heard."""
    is_over = asyncio.Event()

    async def drip(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while not is_over.is_set():
            await peer.send(b"x")
            time.sleep(0.002)  # noqa: ASYNC251 - the busy loop
            await asyncio.sleep(0)

    async with raw_server(drip) as server:
        request = build_request(
            server.url, headers=HEADERS, body=b"{}", timeouts=Timeouts(5, 5, total_s=0.3), allow_private_address=True
        )
        asyncio.get_running_loop().call_later(3, is_over.set)
        started_s = time.monotonic()
        with pytest.raises(httpx.ReadTimeout):
            await read_limited(await upstream.send(request), limit_bytes=10_000_000)
        assert time.monotonic() - started_s < 2
        is_over.set()


async def test_connecting_takes_of_the_time_for_all(upstream: Upstream) -> None:
    async def say_nothing(peer: Peer) -> None:
        await peer.wait_closed()

    async with raw_server(say_nothing) as server:
        timeouts = Timeouts(connect_s=5, read_s=5, total_s=0.3)
        with pytest.raises(httpx.ConnectTimeout):  # of TLS, in which the server does not join
            await send(upstream, server.url.replace("http:", "https:"), timeouts=timeouts)


async def test_a_request_is_sent_once(upstream: Upstream) -> None:
    requests: list[bytes] = []

    async def close_second(peer: Peer) -> None:
        requests.append(await peer.read_request())
        await peer.send(OK)
        requests.append(await peer.read_request())

    async with raw_server(close_second) as server:
        await post(upstream, server.url)
        with pytest.raises(httpx.RemoteProtocolError):
            await post(upstream, server.url)
        assert len(requests) == 2
        assert server.connection_count == 1


async def test_cookies_are_forgotten(upstream: Upstream) -> None:
    requests: list[bytes] = []
    answer = OK.replace(b"\r\n\r\n", b"\r\nset-cookie: tenant=acme; path=/\r\n\r\n")
    async with raw_server(serving(answer, requests)) as server:
        for _ in range(2):
            await post(upstream, f"http://localhost:{server.port}/")  # A jar takes cookies from names only.
    assert len(requests) == 2
    assert b"cookie" not in requests[1].lower()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_answers(upstream: Upstream, status: int) -> None:
    requests: list[bytes] = []

    async with raw_server(serving(OK, requests)) as elsewhere:
        answer = b"HTTP/1.1 %d Moved\r\nlocation: %s\r\ncontent-length: 0\r\n\r\n" % (status, elsewhere.url.encode())
        async with raw_server(serving(answer, requests)) as server:
            response = await send(upstream, server.url)
            assert response.status_code == status
            assert await read_limited(response, limit_bytes=0) == b""
    assert len(requests) == 1


async def test_nothing_is_decompressed(upstream: Upstream) -> None:
    squeezed = b"\x1f\x8b not really"
    answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s" % (len(squeezed), squeezed)
    async with raw_server(serving(answer, [])) as server:
        assert await post(upstream, server.url) == squeezed


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"])
async def test_proxies_of_the_environment_are_not_used(upstream: Upstream, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9/")
    async with raw_server(serving(OK, [])) as server:
        assert await post(upstream, server.url) == b"{}"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nx: y\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nx-large: " + b"x" * 30_000 + b"\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
async def test_unusual_but_right(upstream: Upstream, answer: bytes) -> None:
    async def handle(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(answer)

    async with raw_server(handle) as server:
        assert await post(upstream, server.url) == b"{}"


async def test_tls(upstream: Upstream, server_tls: ssl.SSLContext) -> None:
    async with raw_server(serving(OK, []), tls=server_tls) as server:
        assert await post(upstream, server.url) == b"{}"
        assert await post(upstream, server.url) == b"{}"
        assert server.connection_count == 1


async def test_each_read_is_given_on_at_once(upstream: Upstream) -> None:
    go_on = asyncio.Event()

    async def handle(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD)
        for event in (b"one", b"two", b"three"):
            await peer.send(b"%x\r\n%s\r\n" % (len(event), event))
            await go_on.wait()
            go_on.clear()
        await peer.send(b"0\r\n\r\n")

    async with raw_server(handle) as server:
        response = await send(upstream, server.url)
        reads = []
        async for read in response.stream:
            reads.append(read)
            go_on.set()
        await response.aclose()
    assert reads == [b"one", b"two", b"three"]


async def test_a_long_body_arrives_whole(upstream: Upstream) -> None:
    requests: list[bytes] = []
    body = bytes(range(256)) * 8_000
    async with raw_server(serving(OK, requests)) as server:
        await post(upstream, server.url, body=body)
    assert requests[0].endswith(b"\r\n\r\n" + body)
    assert b"content-length: 2048000\r\n" in requests[0].lower()
    assert b"transfer-encoding" not in requests[0].lower()


async def test_waiting_for_the_answer_is_not_writing(upstream: Upstream) -> None:
    async def think(peer: Peer) -> None:
        await peer.read_request()
        await asyncio.sleep(0.4)
        await peer.send(OK)

    async with raw_server(think) as server:
        timeouts = Timeouts(connect_s=1, read_s=2, write_s=0.2)
        response = await send(upstream, server.url, body=b"x" * 300_000, timeouts=timeouts)
        assert await read_limited(response, limit_bytes=2) == b"{}"


async def test_an_early_answer_to_a_long_body(upstream: Upstream) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 9\r\n\r\ntoo ")
        await asyncio.sleep(0.3)
        await peer.read_exactly(15_000_000)
        await peer.send(b"large")
        await peer.wait_closed()

    async with raw_server(refuse) as server:
        timeouts = Timeouts(connect_s=1, read_s=2, write_s=0.2)
        response = await send(upstream, server.url, body=b"x" * 20_000_000, timeouts=timeouts)
        assert response.status_code == 413
        assert await read_limited(response, limit_bytes=9) == b"too large"


async def refuses(upstream: Upstream, url: str) -> None:
    with pytest.raises(httpx.ConnectError, match="not a public address"):
        await upstream.send(build_request(url, headers=HEADERS, body=b"{}", timeouts=TIMEOUTS))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])  # noqa: S104
async def test_this_machine_needs_permission(upstream: Upstream, host: str) -> None:
    async with raw_server(serving(OK, [])) as server:
        await refuses(upstream, f"http://{host}:{server.port}/v1")
        assert server.connection_count == 0


async def test_permission_of_one_provider_is_not_used_by_another(upstream: Upstream) -> None:
    async with raw_server(serving(OK, [])) as server:
        await post(upstream, server.url)
        await refuses(upstream, server.url)
        assert server.connection_count == 1


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[fd00:ec2::254]", "[64:ff9b::a00:1]", "100.100.100.200"])
async def test_private_networks_need_permission(upstream: Upstream, host: str) -> None:
    await refuses(upstream, f"http://{host}/v1")
