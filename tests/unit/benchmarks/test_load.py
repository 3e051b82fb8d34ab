"""The load generator must notice every answer that is not right: a gateway that refuses is fast."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.load import BadAnswerError, LoadPlan, LoadResult, generate
from benchmarks.provider import Provider
from benchmarks.scenarios import EVENTS_BESIDES_CONTENT, request_body


@asynccontextmanager
async def listening(protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


class Scripted(asyncio.Protocol):
    """Answers each read with the same bytes, and closes after them if it is told to."""

    def __init__(self, answer: bytes, *, closes: bool) -> None:
        self._answer = answer
        self._closes = closes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)
        if self._closes:
            self._transport.close()


async def load(protocol: Callable[[], asyncio.Protocol], body: str, events: int = 0) -> LoadResult:
    async with listening(protocol) as port:
        plan = LoadPlan(port=port, key="k", body=body, requests=9, in_flight=4, events=events, timeout_s=10)
        return await generate(plan)


async def answered(answer: bytes, events: int = 0, *, closes: bool = False) -> LoadResult:
    return await load(lambda: Scripted(answer, closes=closes), request_body(), events)


async def test_whole_answers_are_counted_and_timed():
    result = await load(Provider, request_body())
    assert (result.requests, result.events) == (9, 0)
    assert 0 < result.first_p50_ms <= result.p50_ms <= result.p99_ms < result.seconds * 1000


@pytest.mark.parametrize("pace_ms", [0, 1])
async def test_streams_are_whole_whether_paced_or_in_a_burst(pace_ms):
    events = 5 + EVENTS_BESIDES_CONTENT
    result = await load(Provider, request_body(5, pace_ms), events)
    assert (result.requests, result.events) == (9, 9 * events)


@pytest.mark.parametrize("status", [b"402 Payment Required", b"429 Too Many Requests", b"503 Service Unavailable"])
async def test_a_refusal_ends_the_run(status):
    with pytest.raises(BadAnswerError, match=f"status {status[:3].decode()}"):
        await answered(b"HTTP/1.1 " + status + b'\r\ncontent-length: 12\r\n\r\n{"error":{}}')


async def test_a_connection_that_closes_ends_the_run():
    with pytest.raises(BadAnswerError, match="closed"):
        await answered(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", closes=True)


@pytest.mark.parametrize(
    "stream",
    [
        b"data: {}\n\ndata: {}\n\n",  # no [DONE]
        b"data: {}\n\ndata: [DONE]\n\n",  # one event is missing
        b"data: {}\n\ndata: {}\n\ndata: [DONE]\n\n: more\n\n",  # something follows
    ],
)
async def test_a_stream_that_is_not_whole_ends_the_run(stream):
    with pytest.raises(BadAnswerError, match="of 3"):
        await answered(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(stream), stream), events=3)
