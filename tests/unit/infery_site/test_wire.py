"""The short way to a caller says what ASGI's messages would say, and hears at once who leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from uvicorn.server import ServerState

from chat.streaming import BodyLimits, HttpClient, StreamingConsumer
from infery_site.wire import EXTENSION, Line, wire_of
from tests.unit.infery_site.serving import serving

pytestmark = pytest.mark.timeout(20)

LIMITS = BodyLimits(limit_bytes=1_000_000, chunk_timeout_s=2, total_timeout_s=5)
REQUEST = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"


def application(answer: Any, *, has_wire: bool = True, limits: BodyLimits = LIMITS) -> Any:
    class Consumer(StreamingConsumer):
        def client(self, scope: Any, receive: Any, send: Any) -> HttpClient:
            wire = wire_of(scope)
            assert wire is not None
            return HttpClient(receive, send, "req-1", limits, wire if has_wire else None)

        async def answer(self, _scope: Any, client: HttpClient) -> None:
            await answer(client)

    return Consumer.as_asgi()


async def echo(client: HttpClient) -> None:
    await client.respond(201, [("x-a", "b")], await client.read_body())


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0.01)


async def answers_of(address: Any, sent: bytes) -> bytes:
    """All that comes back, and whether the connection stays open."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(sent)
    got = b""
    while got.count(b"{}") < sent.count(b"HTTP/1"):
        got += await asyncio.wait_for(reader.read(65536), 5)
    try:
        got += await asyncio.wait_for(reader.read(65536), 5 if b"connection: close" in got else 0.05)
        got += b"<closed>"
    except TimeoutError:
        got += b"<open>"
    writer.close()
    return got


@pytest.mark.parametrize(
    "sent",
    [
        REQUEST,
        REQUEST + REQUEST,
        REQUEST.replace(b"1.1", b"1.0"),
        REQUEST.replace(b"host: localhost", b"host: localhost\r\nconnection: close"),
        REQUEST.replace(b"\r\n\r\n{}", b"\r\nexpect: 100-continue\r\n\r\n{}"),
        REQUEST.replace(b"POST", b"OPTIONS"),
    ],
    ids=["plain", "two", "http-1.0", "close", "expect", "options"],
)
async def test_both_ways_say_the_same(sent):
    got = []
    for has_wire in (True, False):
        state = ServerState()
        state.default_headers = [(b"date", b"Sun, 29 Nov 2026 00:00:00 GMT")]
        async with serving(application(echo, has_wire=has_wire), state) as address:
            got.append(await answers_of(address, sent))
    assert got[0] == got[1]
    assert got[0].count(b"HTTP/1.1 201 Created\r\n") == sent.count(b"HTTP/1")
    assert got[0].count(b"\r\nx-a: b\r\n") == got[0].count(b"\r\ndate: Sun, ") == sent.count(b"HTTP/1")


@pytest.mark.parametrize("has_wire", [True, False])
async def test_a_body_over_the_limit_is_refused_though_it_came_at_once(has_wire):
    limits = BodyLimits(limit_bytes=1, chunk_timeout_s=2, total_timeout_s=5)
    async with serving(application(echo, has_wire=has_wire, limits=limits)) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"request_too_large" in answer
        writer.close()


async def test_a_body_that_comes_later_is_waited_for():
    async with serving(application(echo)) as address:
        reader, writer = await asyncio.open_connection(*address)
        for piece in (REQUEST[:-2], b"{", b"}"):
            writer.write(piece)
            await asyncio.sleep(0.02)
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 5)
        assert answer.endswith(b"\r\n\r\n{}")
        writer.close()


async def test_whoever_leaves_is_noticed_at_once():
    left = asyncio.Event()
    reading = asyncio.Event()

    async def answer(client: HttpClient) -> None:
        assert len(await client.read_body()) == 300_000
        reading.set()
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            if client.has_left:
                left.set()
            raise

    async with serving(application(answer)) as address:
        _, writer = await asyncio.open_connection(*address)
        # More than what the server takes before it stops to read: it has to go on to see the end.
        writer.write(REQUEST.replace(b": 2", b": 300000").removesuffix(b"{}") + b"x" * 300_000)
        await asyncio.wait_for(reading.wait(), 2)
        writer.transport.abort()
        await asyncio.wait_for(left.wait(), 2)


async def test_a_request_that_ends_late_takes_nothing_from_the_next():
    """What runs after the last byte goes on while the next request of the connection is watched already."""
    seen: list[str] = []
    both_read = asyncio.Event()

    async def answer(client: HttpClient) -> None:
        body = await client.read_body()
        if body == b"{}":
            await client.respond(200, [], b"{}")
            await asyncio.wait_for(both_read.wait(), 2)
            seen.append("first ended")
            return
        both_read.set()
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            seen.append("second left")
            raise

    async with serving(application(answer)) as address:
        _, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST + REQUEST.replace(b"{}", b"[]"))
        await asyncio.wait_for(both_read.wait(), 2)
        await until(lambda: seen == ["first ended"])
        writer.transport.abort()
        await until(lambda: seen == ["first ended", "second left"])


async def test_who_leaves_during_the_first_of_two_is_no_fault(caplog):
    """Uvicorn takes the second for the one that runs."""
    left: list[bool] = []

    async def answer(client: HttpClient) -> None:
        await client.read_body()
        writers[0].transport.abort()
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            left.append(client.has_left)
            raise

    writers: list[asyncio.StreamWriter] = []
    async with serving(application(answer)) as address:
        _, writer = await asyncio.open_connection(*address)
        writers.append(writer)
        writer.write(REQUEST + REQUEST)
        await until(lambda: left == [True])
        await asyncio.sleep(0.05)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_what_is_answered_to_nobody_is_dropped_and_watching_nobody_says_so():
    asked = asyncio.Event()
    gone = asyncio.Event()
    lines: list[Line] = []
    seen: list[object] = []

    async def plain(scope: Any, receive: Any, _send: Any) -> None:
        wire = wire_of(scope)
        assert wire is not None
        lines.append(scope["extensions"][EXTENSION])
        await receive()
        asked.set()
        await asyncio.wait_for(gone.wait(), 2)
        wire.watch(lambda: seen.append("left"))
        await wire.answer(200, b"content-length: 2\r\n", b"{}")
        seen.append("answered")

    async with serving(plain) as address:
        _, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST)
        await asyncio.wait_for(asked.wait(), 2)
        writer.transport.abort()
        await until(lambda: lines[0].is_lost)
        gone.set()
        await until(lambda: seen == ["left", "answered"])


async def test_a_request_is_answered_once():
    errors: list[Exception] = []

    async def plain(scope: Any, receive: Any, _send: Any) -> None:
        wire = wire_of(scope)
        assert wire is not None
        await receive()
        await wire.answer(200, b"content-length: 2\r\n", b"{}")
        try:
            await wire.answer(200, b"content-length: 2\r\n", b"{}")
        except RuntimeError as error:
            errors.append(error)

    async with serving(plain) as address:
        got = await answers_of(address, REQUEST + REQUEST)
    assert (got.count(b"HTTP/1.1"), got.count(b"{}"), len(errors)) == (2, 2, 2)


async def test_an_answer_waits_for_a_reader_who_has_not_taken_the_last_one():
    large = b"x" * 20_000_000
    begun: list[int] = []

    async def answer(client: HttpClient) -> None:
        await client.read_body()
        begun.append(1)
        await client.respond(200, [], large)
        begun.append(2)

    async with serving(application(answer)) as address:
        reader, writer = await asyncio.open_connection(*address, limit=2**16)
        writer.write(REQUEST + REQUEST)
        await until(lambda: begun == [1, 2, 1])
        await asyncio.sleep(0.05)
        assert begun == [1, 2, 1]  # the second is not written on top of what waits
        got = 0
        while got < 2 * len(large):
            got += len(await asyncio.wait_for(reader.read(2**20), 2))
        await until(lambda: begun == [1, 2, 1, 2])
        writer.close()


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_pieces_of_a_stream_are_the_same_both_ways(version):
    async def answer(client: HttpClient) -> None:
        await client.read_body()
        assert client.way is None  # nothing was begun that could go on
        await client.open_stream([("x-a", "b")])
        way = client.way
        for piece in (b"data: one\n\n", b"data: " + b"x" * 300 + b"\n\n"):
            if way is not None and way.is_clear:
                pushed.append(piece)
                way.push(piece)
            else:
                await client.send(piece)
        await client.end(b"data: {}\n\n")
        assert client.way is None

    got, pushed = [], []
    for has_wire in (True, False):
        async with serving(application(answer, has_wire=has_wire)) as address:
            got.append(await answers_of(address, REQUEST.replace(b"1.1", version).replace(b"{}", b"[]")))
    assert got[0] == got[1]
    assert len(pushed) == 2


async def test_the_way_is_not_clear_to_who_does_not_read_or_has_left():
    seen: list[bool] = []

    async def answer(client: HttpClient) -> None:
        await client.read_body()
        await client.open_stream([])
        way = client.way
        assert way is not None
        while way.is_clear:
            way.push(b"x" * 100_000)
            sizes.append(100_000)
        seen.append(False)
        await client.send(b"y")  # waits until he reads
        seen.append(way.is_clear)
        writers[0].transport.abort()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(5)
        seen.append(way.is_clear)

    sizes: list[int] = []
    writers: list[asyncio.StreamWriter] = []
    async with serving(application(answer)) as address:
        reader, writer = await asyncio.open_connection(*address, limit=2**16)
        writers.append(writer)
        writer.write(REQUEST)
        await until(lambda: seen == [False])
        got = 0
        while len(seen) < 3:
            got += len(await asyncio.wait_for(reader.read(2**20), 2)) if got < sum(sizes) else 0
            await asyncio.sleep(0)
        assert seen == [False, True, False]
