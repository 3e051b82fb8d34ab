"""The end of a stream's time, whatever its provider sends or does not send."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from chat import upstream
from chat.errors import UpstreamFailure, UpstreamInvalidResponse, UpstreamTimeout
from chat.gate import GatedStream
from chat.providers.registry import ADAPTERS
from chat.schema.reply import Chunk
from tests.unit.chat.values import asked_of, request

WORD = b'data: {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": null}]}\n\n'


class Source(httpx.AsyncByteStream):
    """A body that gives these pieces, and then one more every `every_s`, or nothing for ever."""

    def __init__(self, *pieces: bytes, every_s: float | None = None) -> None:
        self._pieces = list(pieces)
        self._every_s = every_s
        self.is_closed = False

    def __aiter__(self):
        return self

    async def __anext__(self) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        if self._every_s is None:
            await asyncio.Event().wait()
        if self._every_s:
            await asyncio.sleep(self._every_s)
        return WORD

    async def aclose(self) -> None:
        self.is_closed = True


def gated(source: Source, *, idle_s: float, total_s: float, failures: list[UpstreamFailure]) -> GatedStream:
    response = upstream.Response(200, [], source)
    decoder = ADAPTERS["openai"].stream(asked_of(request(stream=True)))
    ends_s = time.monotonic() + total_s
    return GatedStream(response, decoder, failures.append, most_bytes=10**12, idle_s=idle_s, ends_s=ends_s)


async def test_a_stream_that_never_says_anything_is_given_up() -> None:
    source = Source(b"data: {}\n\n" * 100, *[b"data: {}\n\n" * 100] * 1_000)
    stream = gated(source, idle_s=3600, total_s=60, failures=[])
    with pytest.raises(UpstreamInvalidResponse):
        await stream.wait_for_content()
    assert len(source._pieces) > 900


async def read(stream: GatedStream, batches: list[list[Chunk]]) -> None:
    while (batch := await stream.next()) is not None:
        batches.append(batch)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(Source(WORD), id="silent"),
        pytest.param(Source(WORD, every_s=0.02), id="talkative"),
        pytest.param(Source(WORD, every_s=0.0), id="without-a-pause"),
    ],
)
async def test_a_stream_ends_when_its_time_is_over(source: Source) -> None:
    """A silence that began shortly before does not prolong it by what a silence may last."""
    failures: list[UpstreamFailure] = []
    stream = gated(source, idle_s=3600, total_s=0.2, failures=failures)
    await stream.wait_for_content()
    batches: list[list[Chunk]] = []
    with pytest.raises(UpstreamTimeout) as caught:
        await read(stream, batches)
    assert batches[0][0].is_real
    assert failures == [caught.value]
    assert caught.value.upstream_status == 200
    await stream.aclose()
    assert source.is_closed
