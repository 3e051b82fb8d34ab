"""The quick way of a stream: batches that are passed on in the moment they come are those that waiting would have given."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from chat.encode import Head, StreamEncoder
from chat.errors import UpstreamError, UpstreamFailure, UpstreamResponseTooLarge
from chat.gate import GatedStream
from chat.outcome import Tally
from chat.providers.registry import ADAPTERS
from chat.relay import EventStream, relay
from chat.schema.reply import Chunk
from chat.sse import COMMENT
from tests.unit.chat.clients import Recorder
from tests.unit.chat.test_relay import Free, Short, Source, chunk
from tests.unit.chat.values import asked_of, request


def said(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


BODY = said("one ") + said("two ") + said("three", "stop") + b"data: [DONE]\n\n"


class Pipe:
    """The response of an upstream, whose reads are these: as many of them flow as are taken."""

    def __init__(self, *reads: bytes) -> None:
        self._reads = list(reads)
        self.flowed = 0

    @property
    def stream(self) -> Pipe:
        return self

    def __aiter__(self) -> Pipe:
        return self

    async def __anext__(self) -> bytes:
        if not self._reads:
            raise StopAsyncIteration
        return self._reads.pop(0)

    async def flow(self, take: Callable[[bytes], bool]) -> None:
        while self._reads:
            self.flowed += 1
            if not take(self._reads.pop(0)):
                return

    def limit_silence(self, read_s: float) -> None:
        assert read_s == 60

    async def aclose(self) -> None:
        self._reads.clear()


def gated(pipe: Pipe, failures: list[UpstreamFailure], **limits: Any) -> GatedStream:
    limits = {"most_bytes": 10**9, "idle_s": 60, "ends_s": time.monotonic() + 3600} | limits
    response: Any = pipe
    return GatedStream(response, ADAPTERS["openai"].stream(asked_of(request(stream=True))), failures.append, **limits)


async def client_gets(pipe: Pipe, *, is_wired: bool) -> tuple[list[Any], Tally]:
    client, tally = Recorder(is_wired=is_wired), Tally()
    stream = EventStream(client, [], first_s=60, every_s=60)
    source = gated(pipe, [])
    await source.wait_for_content()
    await stream.open([])
    assert await relay(source, stream, StreamEncoder(Head("id", 1, "m")), tally, Free())
    await stream.close()
    await source.aclose()
    return client.sent[1:], tally


@pytest.mark.parametrize("size", [1, 2, 7, 31, 64, 100, len(BODY)])
async def test_both_ways_give_the_same(size: int) -> None:
    """Whatever the cuts; one send for each read that says something."""
    reads = [BODY[start : start + size] for start in range(0, len(BODY), size)]
    quick, slow = Pipe(*reads), Pipe(*reads)
    sent, tally = await client_gets(quick, is_wired=True)
    also_sent, also_tallied = await client_gets(slow, is_wired=False)
    assert sent == also_sent
    assert (tally.sent_bytes, tally.finish_reason) == (also_tallied.sent_bytes, also_tallied.finish_reason) == (13, "stop")
    assert quick.flowed == len(reads) - -(-len(said("one ")) // size)  # all but what the gate had read


async def test_a_batch_that_is_not_taken_is_the_next_one() -> None:
    stream = gated(Pipe(said("one "), said("two "), said("three", "stop"), b"data: [DONE]\n\n"), [])
    await stream.wait_for_content()
    await stream.flow(lambda _batch: pytest.fail("the gated batch comes first"))
    first = await stream.next()
    seen: list[list[Chunk]] = []

    def sink(batch: list[Chunk]) -> bool:
        seen.append(batch)
        return len(seen) < 2

    await stream.flow(sink)
    assert first is not None
    assert [batch[0].choices[0].delta.content for batch in (first, *seen)] == ["one ", "two ", "three"]
    assert await stream.next() is seen[1]
    assert await stream.next() == []
    assert await stream.next() is None
    await stream.flow(lambda _batch: pytest.fail("it has ended"))


@pytest.mark.parametrize(
    ("reads", "limits", "failure"),
    [
        pytest.param([said("two ") + b'data: {"error": {"message": "no"}}\n\n'], {}, UpstreamError, id="told"),
        pytest.param([said("two "), b'data: {"error": {"message": "no"}}\n\n'], {}, UpstreamError, id="told-apart"),
        pytest.param([said("two "), said("x" * 1000)], {"most_bytes": 500}, UpstreamResponseTooLarge, id="too-much"),
    ],
)
async def test_what_breaks_on_the_quick_way_is_told_once_what_came_before_was_given(
    reads: list[bytes], limits: dict[str, Any], failure: type[UpstreamFailure]
) -> None:
    failures: list[UpstreamFailure] = []
    stream = gated(Pipe(said("one "), *reads, said("never")), failures, **limits)
    await stream.wait_for_content()
    await stream.next()
    given: list[Chunk] = []

    def sink(batch: list[Chunk]) -> bool:
        given.extend(batch)
        return True

    await stream.flow(sink)
    with pytest.raises(failure) as caught:
        await stream.next()
    assert [one.choices[0].delta.content for one in given] == ["two "]
    assert failures == [caught.value]


async def test_a_fault_of_ours_is_raised_and_not_swallowed() -> None:
    stream = gated(Pipe(said("one "), said("two ")), [])
    await stream.wait_for_content()
    await stream.next()

    def sink(_batch: list[Chunk]) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await stream.flow(sink)


async def test_what_has_to_be_paid_first_is_waited_for_and_cut_where_it_is_not() -> None:
    client, tally = Recorder(is_wired=True), Tally()
    stream = EventStream(client, [], first_s=60, every_s=60)
    await stream.open([])
    source = Source([chunk("ab")], [chunk("cd")], [chunk("ef")], [chunk("never")])
    assert not await relay(source, stream, StreamEncoder(Head("id", 1, "m")), tally, Short(5))
    await stream.close()
    assert tally.sent_bytes == 5
    texts = [choice["delta"].get("content") for choice in choices_of(client)]
    assert texts == ["", "ab", "cd", "e", None]


def choices_of(client: Recorder) -> list[dict[str, Any]]:
    events = b"".join([part for part in client.sent if isinstance(part, bytes)]).split(b"\n\n")
    return [choice for event in events if event for choice in json.loads(event.removeprefix(b"data: "))["choices"]]


class Slow(Recorder):
    """A wired client who takes nothing for a moment, whatever it is that he is sent by waiting."""

    def __init__(self) -> None:
        super().__init__(is_wired=True)
        self.reads = asyncio.Event()

    @property
    def is_clear(self) -> bool:
        return self.reads.is_set()

    async def send(self, frames: bytes) -> None:
        await self.reads.wait()
        await super().send(frames)


async def test_nothing_overtakes_a_comment_or_a_reader() -> None:
    client, tally = Slow(), Tally()
    stream = EventStream(client, [], first_s=0.01, every_s=60)
    await asyncio.sleep(0.05)
    asyncio.get_running_loop().call_later(0.1, client.reads.set)
    source = Source([chunk("ab")], [chunk("cd")], [chunk("ef")])
    assert await relay(source, stream, StreamEncoder(Head("id", 1, "m")), tally, Free())
    await stream.close()
    assert client.sent[1] == COMMENT
    assert [choice["delta"]["content"] for choice in choices_of_frames(client.sent[2:])] == ["", "ab", "cd", "ef"]


def choices_of_frames(frames: list[bytes]) -> list[dict[str, Any]]:
    client = Recorder()
    client.sent = frames
    return choices_of(client)


class Toll(Free):
    """A fare of which every second stretch of two bytes has to be held first, which takes a moment."""

    def __init__(self) -> None:
        self._held_bytes = 2
        self.holds = 0

    async def pay(self, sent_bytes: int) -> bool:
        await asyncio.sleep(0.001)
        if sent_bytes > self._held_bytes:
            self.holds += 1
            self._held_bytes = sent_bytes + 2
        return True

    def is_paid(self, sent_bytes: int) -> bool:
        return sent_bytes <= self._held_bytes


async def test_once_a_hold_is_there_a_stream_flows_again() -> None:
    client, tally, fare = Recorder(is_wired=True), Tally(), Toll()
    stream = EventStream(client, [], first_s=60, every_s=60)
    await stream.open([])
    source = Source(*[[chunk(text)] for text in ("ab", "cd", "ef", "gh", "ij", "kl")])
    assert await relay(source, stream, StreamEncoder(Head("id", 1, "m")), tally, fare)
    await stream.close()
    assert (tally.sent_bytes, fare.holds) == (12, 3)
    assert "".join([choice["delta"]["content"] for choice in choices_of(client)]) == "abcdefghijkl"


class Paced(Source):
    """A source whose batches flow so far apart."""

    def __init__(self, *batches: list[Chunk], pauses_s: list[float]) -> None:
        super().__init__(*batches)
        self._pauses_s = pauses_s

    async def flow(self, sink: Callable[[list[Chunk]], bool]) -> None:
        while self._batches:
            await asyncio.sleep(self._pauses_s.pop(0))
            if not sink(self._batches[0]):
                return
            del self._batches[0]


@pytest.mark.slow
async def test_a_stream_that_flows_is_not_silent_and_a_comment_is_not_overtaken() -> None:
    client = Recorder(is_wired=True)
    stream = EventStream(client, [], first_s=1.5, every_s=1.5)
    await stream.open([])
    texts = [f"{number} " for number in range(20)]
    source = Paced(*[[chunk(text)] for text in texts], pauses_s=[0.1] * 18 + [2.0])
    assert await relay(source, stream, StreamEncoder(Head("id", 1, "m")), Tally(), Free())
    await stream.close()
    assert client.sent.index(COMMENT) == len(client.sent) - 2
    client.sent.remove(COMMENT)
    assert "".join([choice["delta"]["content"] for choice in choices_of(client)]) == "".join(texts)
