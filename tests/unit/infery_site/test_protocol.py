"""The head of a request over a real socket: what uvicorn's parser lets through, and what it answers itself."""

import asyncio
import json
import re
import socket

import pytest
from uvicorn.server import ServerState

from infery_site.protocol import HEAD_LIMIT_BYTES, HEADERS_LIMIT
from tests.unit.infery_site.serving import serving


async def application(scope, receive, send):
    """Answers at once, or when the body is there."""
    while scope["path"] == "/wait" and (await receive()).get("more_body"):
        pass
    names = b",".join(name for name, _ in scope["headers"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2"), (b"x-seen", names)]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def exchange():
    """Sends raw bytes on a new connection; the status, the head and the body of the first answer."""
    async with serving(application) as address:

        async def run(*parts):
            reader, writer = await asyncio.open_connection(*address)
            try:
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.01)
                head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
                length = int(re.search(r"content-length: (\d+)", head)[1])
                return int(head.split()[1]), head.lower(), await reader.readexactly(length)
            finally:
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)

        yield run


def request(*headers: str, target: str = "/") -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "host: localhost", *headers, "", ""]).encode()


async def test_an_ordinary_head_passes(exchange):
    status, _, body = await exchange(request("x-a: 1"))
    assert (status, body) == (200, b"ok")


async def test_a_head_at_both_limits_passes(exchange):
    assert (await exchange(request(*[f"x-{n}: 1" for n in range(HEADERS_LIMIT - 1)])))[0] == 200
    size = HEAD_LIMIT_BYTES - len("/" + "host" + "localhost" + "x-a")
    assert (await exchange(request("x-a: " + "v" * size)))[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        request(*[f"x-{n}: 1" for n in range(HEADERS_LIMIT)]),
        request("x-a: " + "v" * HEAD_LIMIT_BYTES),
        request("x-" + "n" * HEAD_LIMIT_BYTES + ": v"),
        request(*[f"x-{n}: " + "v" * 400 for n in range(50)]),
        request(target="/?" + "q" * HEAD_LIMIT_BYTES),
    ],
    ids=["one header too many", "long value", "long name", "many bytes", "long url"],
)
async def test_a_head_over_a_limit_is_refused_in_json(exchange, head):
    status, sent, body = await exchange(head)
    assert status == 431
    assert json.loads(body)["error"]["code"] == "headers_too_large"
    assert "content-type: application/json; charset=utf-8" in sent
    assert re.search(r"x-request-id: req-[0-9a-z]{29}", sent)
    assert "connection: close" in sent


CHUNKED = b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_what_stands_behind_a_body_is_no_header(exchange):
    status, sent, _ = await exchange(CHUNKED + b"2\r\nok\r\n0\r\nauthorization: Bearer x\r\n\r\n")
    assert status == 200
    assert "x-seen: host,transfer-encoding\r\n" in sent


async def test_trailers_count_like_headers(exchange):
    """The first two fields are those of the head."""
    fits = b"x-a: 1\r\n" * (HEADERS_LIMIT - 2)
    assert (await exchange(CHUNKED + b"0\r\n" + fits + b"\r\n"))[0] == 200
    assert (await exchange(CHUNKED + b"0\r\n" + fits + b"x-a: 1\r\n\r\n"))[0] == 431


@pytest.mark.parametrize("start", [b"0\r\nx-a: ", b"2;"], ids=["trailer", "extension"])
async def test_what_never_ends_behind_the_head_is_refused_while_it_arrives(exchange, start):
    endless = [CHUNKED.replace(b"/ HTTP", b"/wait HTTP") + start, *[b"v" * 8192] * 4]
    assert (await exchange(*endless))[0] == 431


async def test_a_body_may_be_as_long_as_it_likes(exchange):
    chunks = [b"2000\r\n" + b"v" * 8192 + b"\r\n"] * 8
    assert (await exchange(CHUNKED.replace(b"/ HTTP", b"/wait HTTP"), *chunks, b"0\r\n\r\n"))[0] == 200


@pytest.mark.parametrize("method", ["BREW", "get", "x-a'b"])
async def test_a_method_that_does_not_exist_is_refused_in_json(exchange, method):
    status, sent, body = await exchange(request().replace(b"GET", method.encode(), 1))
    assert status == 405
    assert json.loads(body)["error"]["code"] == "method_not_allowed"
    assert "\r\nallow: " in sent
    assert "connection: close" in sent


async def test_a_header_that_never_ends_is_refused_while_it_arrives(exchange):
    endless = [b"GET / HTTP/1.1\r\nhost: localhost\r\nx-a: ", *[b"v" * 8192] * 4]
    assert (await exchange(*endless))[0] == 431


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx-a: b\rc: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx-a: \0\r\n\r\n",
        b"GET ftp://localhost/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ],
    ids=["no http", "two lengths", "length and chunks", "negative length", "bare carriage return", "nul", "another scheme"],
)
async def test_what_is_not_http_is_refused_in_json(exchange, raw):
    status, sent, body = await exchange(raw)
    assert status == 400
    assert json.loads(body)["error"]["code"] == "invalid_http"
    assert "connection: close" in sent


async def test_the_next_request_on_a_connection_is_counted_anew(exchange):
    large = request("x-a: " + "v" * (HEAD_LIMIT_BYTES // 2))
    assert (await exchange(large, large, large))[0] == 200


async def test_who_is_about_to_ask_when_the_server_leaves_is_answered():
    state = ServerState()
    async with serving(application, state) as address:
        asking, silent = [await asyncio.open_connection(*address) for _ in range(2)]
        for _ in range(1_000):
            if len(state.connections) == 2:
                break
            await asyncio.sleep(0.005)
        for connection in list(state.connections):
            connection.shutdown()
        asking[1].write(request())
        answer = await asyncio.wait_for(asking[0].read(), 5)  # to its end: the connection is closed all the same
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\nok")
        assert await asyncio.wait_for(silent[0].read(), 5) == b""
        for _, writer in (asking, silent):
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_a_caller_on_a_socket_for_both_kinds_has_its_own_address():
    """By which proxies are believed, keys are limited and metrics are shown."""
    seen = []

    async def noting(scope, receive, send):
        seen.append(scope["client"][0])
        await application(scope, receive, send)

    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    async with serving(noting, listener=listener) as (_, port, *_):
        for host in ("127.0.0.1", "::1"):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            await reader.read()
            writer.close()
    assert seen == ["127.0.0.1", "::1"]
