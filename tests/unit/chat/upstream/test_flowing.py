"""A body that is taken in the moment it comes: nothing is lost, given twice or given late, and what ends it is told as ever."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from chat.upstream import Response, Timeouts, Upstream
from chat.upstream.connection import Connection
from tests.fakes.raw import Peer, raw_server
from tests.unit.chat.upstream.sending import STREAM_HEAD, send

LAST = b"0\r\n\r\n"


def piece(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Turns:
    """A server that sends its next part when it is told to, and closes after the last."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts
        self._turns = asyncio.Semaphore(0)

    def next(self) -> None:
        self._turns.release()

    async def __call__(self, peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD)
        for part in self._parts:
            await self._turns.acquire()
            await peer.send(part)


class Taker:
    """Takes until `most` parts were given, and asks for the next one each time."""

    def __init__(self, ask: Callable[[], None], most: int = 1000) -> None:
        self._ask = ask
        self._most = most
        self.taken: list[bytes] = []

    def __call__(self, data: bytes) -> bool:
        self.taken.append(data)
        if len(self.taken) < self._most:
            self._ask()
            return True
        return False


async def read_all(response: Response) -> bytes:
    return b"".join([part async for part in response.stream])


async def read_into(parts: list[bytes], response: Response) -> None:
    async for part in response.stream:
        parts.append(part)  # noqa: PERF401 - kept although it ends with an error


async def test_parts_are_given_as_they_come_and_the_end_is_read(upstream: Upstream) -> None:
    turns = Turns(piece(b"one"), piece(b"two"), piece(b"three") + LAST)
    async with raw_server(turns) as server:
        response = await send(upstream, server.url)
        taker = Taker(turns.next)
        turns.next()
        await asyncio.wait_for(response.flow(taker), 5)
        assert taker.taken == [b"one", b"two"]
        await response.flow(taker)  # nothing flows any more
        assert await read_all(response) == b"three"
        await response.aclose()
        assert server.connection_count == 1


async def test_whoever_takes_no_more_has_the_rest_to_read(upstream: Upstream) -> None:
    turns = Turns(piece(b"one"), piece(b"two"), piece(b"three"), LAST)
    async with raw_server(turns) as server:
        response = await send(upstream, server.url)
        taker = Taker(turns.next, most=2)
        turns.next()
        await asyncio.wait_for(response.flow(taker), 5)
        turns.next()
        turns.next()
        assert (taker.taken, await read_all(response)) == ([b"one", b"two"], b"three")
        await response.aclose()


async def test_what_was_there_before_is_not_passed_by(upstream: Upstream) -> None:
    turns = Turns(piece(b"one"), piece(b"two"), LAST)
    async with raw_server(turns) as server:
        response = await send(upstream, server.url)
        turns.next()
        await asyncio.sleep(0.05)
        taker = Taker(turns.next)
        await asyncio.wait_for(response.flow(taker), 5)
        assert taker.taken == []
        turns.next()
        turns.next()
        assert await read_all(response) == b"onetwo"
        await response.aclose()


async def test_who_never_ends_is_cut_off_when_the_time_is_over(upstream: Upstream) -> None:
    """Though he is never silent, and none of what he says is left to be read."""

    async def say_more(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD)
        with contextlib.suppress(ConnectionError):
            while True:
                await peer.send(piece(b"more"))
                await asyncio.sleep(0)

    async def take_all(response: Response) -> None:
        while time.monotonic() - started_s < 5:
            await response.flow(taker)
            taker.taken.append(await anext(aiter(response.stream)))

    taker = Taker(lambda: None, most=10**9)
    async with raw_server(say_more) as server:
        started_s = time.monotonic()
        response = await send(upstream, server.url, timeouts=Timeouts(5, 5, total_s=0.3))
        with pytest.raises(httpx.ReadTimeout):
            await take_all(response)
        await response.aclose()
    assert 0.25 < time.monotonic() - started_s < 2
    assert len(taker.taken) > 10
    assert set(b"".join(taker.taken)) == set(b"more")


async def test_a_fault_of_who_takes_is_his_callers(upstream: Upstream) -> None:
    def take(_data: bytes) -> bool:
        raise ValueError("cannot be decoded")

    turns = Turns(piece(b"one"), LAST)
    async with raw_server(turns) as server:
        response = await send(upstream, server.url)
        turns.next()
        with pytest.raises(ValueError, match="cannot be decoded"):
            await asyncio.wait_for(response.flow(take), 5)
        await response.aclose()


@pytest.mark.parametrize(
    ("last", "fault"),
    [
        pytest.param(b"", httpx.RemoteProtocolError, id="closed"),
        pytest.param(b"no chunk\r\n", httpx.RemoteProtocolError, id="not-http"),
    ],
)
async def test_a_fault_of_the_peer_is_told_to_who_reads_next(upstream: Upstream, last: bytes, fault: type[Exception]) -> None:
    turns = Turns(piece(b"one"), piece(b"two") + last)
    async with raw_server(turns) as server:
        response = await send(upstream, server.url)
        taker = Taker(turns.next)
        turns.next()
        await asyncio.wait_for(response.flow(taker), 5)
        rest: list[bytes] = []
        with pytest.raises(fault):
            await read_into(rest, response)
        assert taker.taken + rest == [b"one", b"two"]
        await response.aclose()


@pytest.mark.slow
async def test_a_silence_ends_it_however_much_came_before(upstream: Upstream) -> None:
    turns = Turns(piece(b"one"), piece(b"two"), LAST)
    async with raw_server(turns) as server:
        response = await send(upstream, server.url, timeouts=Timeouts(connect_s=5, read_s=1.5))
        taken: list[bytes] = []

        def take(data: bytes) -> bool:
            taken.append(data)
            return True

        asyncio.get_running_loop().call_later(0.7, turns.next)
        asyncio.get_running_loop().call_later(1.4, turns.next)
        started_s = asyncio.get_running_loop().time()
        await asyncio.wait_for(response.flow(take), 30)
        assert taken == [b"one", b"two"]
        assert asyncio.get_running_loop().time() - started_s > 2.8
        with pytest.raises(httpx.ReadTimeout):
            await read_all(response)
        await response.aclose()


async def test_nothing_is_given_to_who_was_cancelled(upstream: Upstream) -> None:
    turns = Turns(piece(b"one"), LAST)
    async with raw_server(turns) as server:
        response = await send(upstream, server.url)
        taker = Taker(turns.next)
        flowing = asyncio.create_task(response.flow(taker))
        await asyncio.sleep(0.02)
        flowing.cancel()
        turns.next()
        with pytest.raises(asyncio.CancelledError):
            await flowing
        assert await anext(aiter(response.stream)) == b"one"
        assert taker.taken == []
        await response.aclose()


class Line:
    """A transport that counts: how often reading was paused and resumed."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self.paused = self.resumed = 0

    def get_extra_info(self, _name: str) -> socket.socket:
        return self._socket

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.resumed += 1

    def abort(self) -> None:
        self._socket.close()

    def write(self, _data: bytes) -> None: ...

    def is_closing(self) -> bool:
        return False


@pytest.fixture
async def connection() -> AsyncIterator[tuple[Connection, Line]]:
    """One that waits for its body, to be driven by hand."""
    line: Any = Line()
    made = Connection(lambda _connection: None)
    made.connection_made(line)
    asked = asyncio.create_task(made.send(b"", b"", read_s=60, write_s=60))
    await asyncio.sleep(0)
    made.data_received(STREAM_HEAD)
    await asked
    yield made, line
    made.abort()


async def begun(connection: Connection, *, goes_on: bool = True) -> tuple[asyncio.Task[None], list[bytes]]:
    """A task that waits while the connection flows, and what was given so far."""
    taken: list[bytes] = []

    def take(data: bytes) -> bool:
        taken.append(data)
        return goes_on

    flowing = asyncio.create_task(connection.flow(take))
    await asyncio.sleep(0)
    return flowing, taken


async def test_others_have_their_turn_when_much_comes_at_once(connection: tuple[Connection, Line]) -> None:
    """A loop that was busy finds megabytes: the transport gives all of them in one go, unless it is asked to wait."""
    made, line = connection
    flowing, taken = await begun(made)
    sent = 0
    while not line.paused:
        made.data_received(piece(bytes(64 * 1024)))
        sent += 1
    assert sent < 8
    await asyncio.wait_for(flowing, 1)
    rest = await made.read()
    assert (sum(map(len, taken)) + len(rest), line.resumed) == (sent * 64 * 1024, 1)
    flowing, taken = await begun(made)
    made.data_received(piece(b"it flows again"))
    assert taken == [b"it flows again"]
    flowing.cancel()


@pytest.mark.parametrize("is_refused", [False, True], ids=["cancelled", "refused"])
async def test_what_comes_before_the_task_wakes_is_kept(connection: tuple[Connection, Line], is_refused: bool) -> None:  # noqa: FBT001
    made, _ = connection
    flowing, taken = await begun(made, goes_on=False)
    if is_refused:
        made.data_received(piece(b"one"))
    else:
        flowing.cancel()
    made.data_received(piece(b"two"))
    made.data_received(piece(b"three"))
    await asyncio.wait([flowing])
    assert (taken, await made.read()) == ([b"one"] if is_refused else [], b"twothree")


async def test_what_frames_a_body_wakes_nobody(connection: tuple[Connection, Line]) -> None:
    """A peer that sends size, data and line end apart: all data flows."""
    made, _ = connection
    flowing, taken = await begun(made)
    for word in (b"one", b"two", b"three"):
        for part in (b"%x\r\n" % len(word), word, b"\r\n"):
            made.data_received(part)
            await asyncio.sleep(0)
    assert (taken, flowing.done()) == ([b"one", b"two", b"three"], False)
    flowing.cancel()


async def test_a_fault_of_transport_that_a_taker_raises_is_no_fault_of_the_peer(connection: tuple[Connection, Line]) -> None:
    def take(_data: bytes) -> bool:
        raise httpx.ReadError("of somebody else")

    made, _ = connection
    flowing = asyncio.create_task(made.flow(take))
    await asyncio.sleep(0)
    made.data_received(piece(b"one"))
    with pytest.raises(httpx.ReadError, match="of somebody else"):
        await flowing
    made.data_received(piece(b"two"))
    assert await made.read() == b"two"


async def drip(peer: Peer) -> None:
    """What frames a chunk that never comes."""
    await peer.read_request()
    await peer.send(STREAM_HEAD, piece(b"one"), b"5;")
    for _ in range(500):
        await peer.send(b"x")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("is_flowing", [False, True], ids=["read", "flow"])
async def test_who_drips_what_is_no_body_is_silent(upstream: Upstream, is_flowing: bool) -> None:  # noqa: FBT001
    async with raw_server(drip) as server:
        response = await send(upstream, server.url, timeouts=Timeouts(connect_s=5, read_s=0.3))
        stream = aiter(response.stream)
        assert await anext(stream) == b"one"
        started_s = asyncio.get_running_loop().time()
        if is_flowing:
            await response.flow(lambda _data: pytest.fail("nothing came"))
        with pytest.raises(httpx.ReadTimeout):
            await anext(stream)
        assert asyncio.get_running_loop().time() - started_s < 4
        await response.aclose()
