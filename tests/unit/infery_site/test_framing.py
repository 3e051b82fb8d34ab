"""Where one request ends and the next begins, over a real socket: what is sent as a body is never read as a request."""

import asyncio
import json
import socket
import struct
import time

import pytest
from uvicorn.server import ServerState

from tests.unit.infery_site.serving import serving

RESET = struct.pack("ii", 1, 0)
SMUGGLED = b"POST /smuggled HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
OFFERS = {
    "h2c": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n",
    "websocket": b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    "two": b"upgrade: h2c\r\nconnection: upgrade\r\nupgrade: TLS/1.0\r\n",
}


async def application(scope, receive, send):
    """Answers with what it was sent; at `/early` before the body, at `/half` with an answer that never ends."""
    path, body = scope["path"], b""
    message = {"more_body": path != "/early"}
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    names = [name.decode() for name, _ in scope["headers"]]
    hosts = [value.decode() for name, value in scope["headers"] if name == b"host"]
    seen = {"method": scope["method"], "path": path, "names": names, "hosts": hosts, "body": body.decode()}
    content = json.dumps(seen | {"query": scope["query_string"].decode()}).encode()
    length = len(content) + (path == "/half")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % length)]})
    await send({"type": "http.response.body", "body": content, "more_body": path == "/half"})
    while path == "/half" and (await receive())["type"] != "http.disconnect":
        pass


@pytest.fixture
async def connection():
    async with serving(application) as address:
        reader, writer = await asyncio.open_connection(*address)
        yield reader, writer
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def send(connection, *parts):
    for part in parts:
        connection[1].write(part)
        await connection[1].drain()
        await asyncio.sleep(0.002)


async def read(connection):
    """The next answer: status, whether the connection is said to close, and the body."""
    head = (await asyncio.wait_for(connection[0].readuntil(b"\r\n\r\n"), 5)).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    content = json.loads(await connection[0].readexactly(length))
    return int(head.split()[1]), "\r\nconnection: close" in head, content


async def is_closed(connection):
    return await asyncio.wait_for(connection[0].read(), 5) == b""


def post(*lines, target=b"/", body=SMUGGLED, version=b"1.1"):
    length = b"content-length: %d\r\n" % len(body)
    head = b"POST " + target + b" HTTP/" + version + b"\r\nhost: localhost\r\nx-a: b\r\n"
    return head + length + b"".join(lines) + b"\r\n" + body


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 7, 60, 10**6], ids=["bytes", "sevens", "sixties", "whole"])
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
async def test_an_offer_to_upgrade_is_ignored_and_the_body_stays_a_body(connection, offer, size):
    """However the bytes are cut, and again on the same connection."""
    data = post(offer) + post()
    await send(connection, *[data[start : start + size] for start in range(0, len(data), size)])
    for _ in range(2):
        status, is_last, seen = await read(connection)
        assert (status, is_last) == (200, False)
        assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/", SMUGGLED.decode())
        assert seen["names"][:3] == ["host", "x-a", "content-length"]
        assert "upgrade" not in seen["names"]


async def test_a_chunked_body_behind_an_offer(connection):
    chunked = b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n" + OFFERS["h2c"] + b"\r\n"
    await send(connection, chunked, b"4\r\nGET \r\n", b"0\r\n\r\n")
    assert (await read(connection))[2]["body"] == "GET "


async def test_as_many_offers_as_fit_into_one_read(connection):
    """Each is put aside in its turn: none of them nests in another."""
    count = 2_000
    offer = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    await send(connection, offer * count)
    for _ in range(count):
        assert (await read(connection))[0] == 200


async def test_an_offer_does_not_keep_a_connection_open(connection):
    await send(connection, post(b"connection: close, upgrade\r\nupgrade: h2c\r\n"))
    assert (await read(connection))[:2] == (200, True)
    assert await is_closed(connection)


async def test_nothing_is_read_behind_a_tunnel(connection):
    await send(connection, b"CONNECT / HTTP/1.1\r\nhost: localhost\r\n\r\n" + SMUGGLED, SMUGGLED)
    status, is_last, seen = await read(connection)
    assert (status, is_last, seen["method"], seen["body"]) == (200, True, "CONNECT", "")
    assert await is_closed(connection)


async def test_a_tunnel_elsewhere_is_refused(connection):
    await send(connection, b"CONNECT example.com:443 HTTP/1.1\r\nhost: localhost\r\n\r\n" + SMUGGLED)
    status, is_last, refusal = await read(connection)
    assert (status, is_last, refusal["error"]["code"]) == (405, True, "method_not_allowed")
    assert await is_closed(connection)


async def test_a_connection_ends_where_the_body_may_never_come(connection):
    """The client waits for `100 Continue`, gets an answer instead, and may keep its body."""
    await send(connection, post(b"expect: 100-continue\r\n", target=b"/early", body=b""), SMUGGLED)
    assert (await read(connection))[:2] == (200, True)
    assert await is_closed(connection)


TAIL = b"a" * 200_000
UNREAD = {
    "an-early-answer": post(b"connection: close\r\n", target=b"/early", body=TAIL)[: -len(TAIL)],
    "an-early-answer-to-http-1.0": post(target=b"/early", body=TAIL, version=b"1.0")[: -len(TAIL)],
    "no-word-whether-to-send": post(b"expect: 100-continue\r\n", target=b"/early", body=TAIL)[: -len(TAIL)],
    "a-tunnel": b"CONNECT / HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "nonsense": b"nonsense\r\n\r\n",
    "no-size-of-a-chunk": b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
    "a-head-without-end": b"GET / HTTP/1.1\r\nx-a: " + b"a" * 17_000,
}


def send_all_then_read(address, beginning):
    """As many clients do. Gives what came; raises OSError if the connection was reset."""
    with socket.create_connection(address, timeout=5) as client:
        client.sendall(beginning)
        for _ in range(10):
            time.sleep(0.005)
            client.sendall(TAIL[: len(TAIL) // 10])
        return b"".join(iter(lambda: client.recv(65_536), b""))


@pytest.mark.parametrize("beginning", UNREAD.values(), ids=UNREAD)
async def test_who_is_still_sending_gets_his_answer_and_no_reset(beginning):
    """A socket that is closed over what nobody has read is reset, and the answer may go with it."""
    async with serving(application) as address:
        head, _, body = (await asyncio.to_thread(send_all_then_read, address, beginning)).lower().partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head
    assert len(body) == int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])


@pytest.mark.parametrize("is_resetting", [False, True], ids=["slow", "gone"])
async def test_who_never_closes_is_closed_after_a_while(settings, is_resetting):
    settings.CLIENT_LINGER_S = 60 if is_resetting else 0.3
    state = ServerState()
    async with serving(application, state) as address:
        with socket.create_connection(address, timeout=5) as client:
            began = time.monotonic()
            client.sendall(UNREAD["a-tunnel"])
            assert await asyncio.to_thread(client.recv, 65_536)
            client.sendall(b"a")
            if is_resetting:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.close()
            for _ in range(500):
                await asyncio.sleep(0.01 if state.connections else 0)
            assert not state.connections
            assert is_resetting or time.monotonic() - began >= 0.29


CODINGS = {
    "gzip-and-chunked": b"transfer-encoding: gzip, chunked\r\n",
    "two-lines": b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
    "chunked-twice": b"transfer-encoding: chunked, chunked\r\n",
    "chunked-on-two-lines": b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    "identity": b"transfer-encoding: identity, chunked\r\n",
    "behind-an-offer": b"transfer-encoding: gzip, chunked\r\n" + OFFERS["h2c"],
}


@pytest.mark.parametrize("codings", CODINGS.values(), ids=CODINGS)
async def test_only_chunked_is_a_coding(connection, codings):
    await send(connection, b"POST / HTTP/1.1\r\nhost: localhost\r\n" + codings + b"\r\n2\r\n{}\r\n0\r\n\r\n")
    status, is_last, refusal = await read(connection)
    assert (status, is_last, refusal["error"]["code"]) == (400, True, "invalid_http")
    assert await is_closed(connection)


@pytest.mark.parametrize(("version", "status"), [(b"1.1", 200), (b"1.0", 400)])
async def test_chunks_are_a_matter_of_http_1_1(connection, version, status):
    head = b"POST / HTTP/" + version + b"\r\nhost: localhost\r\nTransfer-Encoding: Chunked\r\n\r\n"
    await send(connection, head + b"2\r\n{}\r\n0\r\n\r\n")
    assert (await read(connection))[0] == status


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        (b"http://evil.example/v1/models?a=b", "evil.example", "/v1/models", "a=b"),
        (b"HTTPS://evil.example:8000/", "evil.example:8000", "/", ""),
        (b"http://evil.example", "evil.example", "/", ""),
        (b"http://evil.example?a", "evil.example", "/", "a"),
        (b"http://localhost@evil.example/", "localhost@evil.example", "/", ""),
        (b"http:///v1/models", "", "/v1/models", ""),
    ],
)
async def test_the_host_of_an_absolute_target_is_the_host(connection, target, host, path, query):
    await send(connection, post(b"Host: localhost\r\n", target=target))
    _, _, seen = await read(connection)
    assert (seen["hosts"], seen["path"], seen["query"]) == ([host], path, query)


async def test_a_refusal_never_stands_inside_an_answer(connection):
    await send(connection, post(target=b"/half"))
    head = await asyncio.wait_for(connection[0].readuntil(b"\r\n\r\n"), 5)
    await send(connection, b"nonsense\r\n\r\n")
    rest = await asyncio.wait_for(connection[0].read(), 5)
    assert b"200 OK" in head
    assert json.loads(rest)["path"] == "/half", "the answer breaks off, and nothing follows it"


async def test_a_refusal_is_never_the_answer_of_an_earlier_request(connection):
    await send(connection, post(target=b"/half") + post() + b"nonsense\r\n\r\n")
    assert await asyncio.wait_for(connection[0].read(), 5) == b""


async def test_nonsense_behind_a_request_is_no_unknown_method(connection):
    """The request itself is no excuse for what follows it."""
    await send(connection, post() + b"nonsense\r\n\r\n")
    assert (await read(connection))[2]["error"]["code"] == "invalid_http"


SLOW = {
    "nothing": [],
    "half-a-head": [b"GET / HTTP/1.1\r\n"],
    "empty-lines": [b"\r\n"] * 40,
    "a-head-in-drops": [b"GET / HTTP/1.1\r\nx-a: ", *[b"b"] * 40],
    "half-a-head-after-a-request": [post(), b"GET / HTTP/1.1\r\n"],
    "a-body-that-nobody-reads": [post(target=b"/early", body=b"")[:-4].replace(b": 0", b": 9999"), b"\r\n\r\n", *[b"b"] * 40],
}


@pytest.mark.parametrize("pieces", SLOW.values(), ids=SLOW)
async def test_a_connection_without_a_request_is_not_kept(pieces):
    """Whatever trickles in."""
    async with serving(application, timeout_keep_alive=0.2) as address:
        reader, writer = await asyncio.open_connection(*address)
        reading = asyncio.create_task(asyncio.wait_for(reader.read(), 5))
        for piece in pieces:
            if not reading.done():
                writer.write(piece)
                await asyncio.sleep(0.02)
        await asyncio.gather(reading, return_exceptions=True)
        assert not isinstance(reading.exception(), TimeoutError), "the server did not close"
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_a_request_that_runs_is_waited_for():
    """However long it takes, and its body."""
    async with serving(application, timeout_keep_alive=0.05) as address:
        connection = await asyncio.open_connection(*address)
        data = post(body=b"a" * 50)
        await send(connection, data[:-50])
        for _ in range(5):
            await asyncio.sleep(0.05)
            await send(connection, b"a" * 10)
        assert (await read(connection))[2]["body"] == "a" * 50
        connection[1].close()
        await connection[1].wait_closed()
