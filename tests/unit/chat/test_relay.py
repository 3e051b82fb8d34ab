"""Keep-alive comments, and the order in which a stream is opened and fed."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from billing.pricing import Usage
from chat.encode import Head, StreamEncoder
from chat.errors import ClientTooSlow
from chat.outcome import Tally
from chat.relay import READER_LAG_S, EventStream, relay
from chat.schema.reply import ChoiceDelta, Chunk, Delta, ReportedUsage
from chat.sse import COMMENT, SseDecoder
from tests.unit.chat.clients import Recorder


class Source:
    def __init__(self, *batches: list[Chunk], left_s: float = 60.0) -> None:
        self._batches = list(batches)
        self.ends_s = time.monotonic() + left_s

    async def next(self):
        return self._batches.pop(0) if self._batches else None

    async def flow(self, sink) -> None:
        while self._batches and sink(self._batches[0]):
            del self._batches[0]


class Free:
    """A fare that costs nothing."""

    async def pay(self, sent_bytes: int) -> bool:
        return True

    def is_paid(self, sent_bytes: int) -> bool:
        return True

    def paid_bytes(self) -> int:
        raise AssertionError("nobody asks how far it reaches where everything is paid")


class Short:
    """A fare that pays for so many bytes."""

    def __init__(self, bytes_paid: int) -> None:
        self._bytes_paid = bytes_paid

    async def pay(self, sent_bytes: int) -> bool:
        return sent_bytes <= self._bytes_paid

    def is_paid(self, sent_bytes: int) -> bool:
        return sent_bytes <= self._bytes_paid

    def paid_bytes(self) -> int:
        return self._bytes_paid


def chunk(text: str) -> Chunk:
    return Chunk((ChoiceDelta(0, Delta(content=text)),))


async def test_a_quick_stream_has_no_comments():
    client = Recorder()
    stream = EventStream(client, [("a", "early")], first_s=5, every_s=5)
    assert await stream.open([("a", "facts")])
    await stream.send(b"x")
    await stream.close()
    assert client.sent == [[("a", "facts")], b"x"]


async def test_a_long_wait_opens_the_stream_with_a_comment_and_loses_the_headers():
    client = Recorder()
    stream = EventStream(client, [("a", "early")], first_s=0.01, every_s=5)
    await asyncio.sleep(0.05)
    assert client.sent == [[("a", "early")], COMMENT]
    assert not await stream.open([("a", "facts")])
    await stream.send(b"x")
    await stream.close()
    assert client.sent == [[("a", "early")], COMMENT, b"x"]


async def test_comments_come_in_silence_only():
    client = Recorder()
    stream = EventStream(client, [], first_s=0.2, every_s=0.2)
    await stream.open([])
    for _ in range(10):
        await stream.send(b"x")
        await asyncio.sleep(0.03)
    assert COMMENT not in client.sent
    await asyncio.sleep(0.5)
    assert client.sent.count(COMMENT) in {1, 2}
    await stream.close()
    count = client.sent.count(COMMENT)
    await asyncio.sleep(0.3)
    assert client.sent.count(COMMENT) == count


async def test_a_batch_is_one_send_and_is_tallied():
    client, tally = Recorder(), Tally()
    stream = EventStream(client, [], first_s=5, every_s=5)
    await stream.open([])
    source = Source([chunk("ab"), chunk("c")], [Chunk()], [chunk("d")])
    assert await relay(source, stream, StreamEncoder(Head("id", 1, "m")), tally, Free())
    await stream.close()
    assert len(client.sent) == 3
    assert tally.sent_bytes == 4


class Drip(Recorder):
    """A client that takes what he is sent, a little of it at a time and for ever."""

    async def send(self, frames: bytes) -> None:
        self.sent.append(frames)
        await asyncio.Event().wait()


async def test_a_reader_keeps_a_stream_no_longer_than_it_may_last():
    """He is no provider: what he was sent counts, and the pace of whoever sends it does not."""
    client, tally = Drip(), Tally()
    stream = EventStream(client, [], first_s=5, every_s=5)
    await stream.open([])
    source = Source([chunk("ab")], [chunk("never")], left_s=0.05 - READER_LAG_S)
    with pytest.raises(ClientTooSlow):
        await relay(source, stream, StreamEncoder(Head("id", 1, "m")), tally, Free())
    await stream.close()
    assert tally.sent_bytes == 2


async def test_what_nothing_pays_for_is_not_sent_and_the_choices_are_cut():
    client, tally = Recorder(), Tally()
    stream = EventStream(client, [], first_s=5, every_s=5)
    await stream.open([])
    source = Source([chunk("ab")], [chunk("cd")], [chunk("never")])
    assert not await relay(source, stream, StreamEncoder(Head("id", 1, "m")), tally, Short(2))
    await stream.close()
    assert tally.sent_bytes == 2
    assert b"cd" not in b"".join(client.sent[1:])
    assert b'"finish_reason":"length"' in client.sent[-1]


async def relayed(fare, *batches):
    """What a client gets of these batches, as the choices of each event, and the tally."""
    client, tally = Recorder(), Tally()
    stream = EventStream(client, [], first_s=5, every_s=5)
    await stream.open([])
    is_whole = await relay(Source(*batches), stream, StreamEncoder(Head("id", 1, "m")), tally, fare)
    await stream.close()
    events = SseDecoder().feed(b"".join(client.sent[1:]))
    return is_whole, [json.loads(event.data)["choices"] for event in events], tally


async def test_of_a_batch_that_is_too_much_what_is_paid_is_sent():
    is_whole, choices, tally = await relayed(Short(5), [chunk("ab"), chunk("cd"), chunk("ef"), chunk("g")])
    assert not is_whole
    assert [choice["delta"].get("content") for (choice,) in choices] == ["", "ab", "cd", "e", None]
    assert choices[-1][0]["finish_reason"] == "length"
    assert (tally.sent_bytes, tally.has_content) == (5, True)


async def test_one_chunk_that_is_too_much_is_sent_as_far_as_it_is_paid():
    """Else a provider that says everything at once would have worked for nothing. Its figure is for more than was sent."""
    said = ChoiceDelta(0, Delta(content="abcdef"), "stop", {"content": []})
    is_whole, choices, tally = await relayed(Short(5), [Chunk((said,), ReportedUsage(Usage(5, 1_000)))])
    assert not is_whole
    assert [(choice["delta"].get("content"), choice["finish_reason"]) for (choice,) in choices] == [
        ("", None),
        ("abcde", None),
        (None, "length"),
    ]
    assert (tally.sent_bytes, tally.has_content, tally.usage) == (5, True, None)


async def test_one_chunk_of_which_nothing_is_paid_is_not_sent_and_a_choice_is_cut_all_the_same():
    is_whole, choices, tally = await relayed(Short(0), [chunk("abcdef")])
    assert not is_whole
    assert [choice["finish_reason"] for (choice,) in choices] == [None, "length"]
    assert choices[0][0]["delta"] == {"role": "assistant", "content": ""}
    assert (tally.sent_bytes, tally.has_content) == (0, False)


async def test_a_choice_that_has_ended_is_not_cut():
    ended = Chunk((ChoiceDelta(0, Delta(), "stop"),))
    second = Chunk((ChoiceDelta(1, Delta(content="abcd")),))
    _, choices, _ = await relayed(Short(5), [chunk("ab"), ended, Chunk((ChoiceDelta(1, Delta(content="c")),)), second])
    finished = [(choice["index"], choice["finish_reason"]) for event in choices for choice in event if choice["finish_reason"]]
    assert finished == [(0, "stop"), (1, "length")]


class Stalled(Recorder):
    """A client whose connection takes nothing until `reads` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = asyncio.Event()
        self.waiting = 0

    async def send(self, frames) -> None:
        self.waiting += 1
        await self.reads.wait()
        await super().send(frames)


async def test_a_client_that_does_not_read_is_sent_one_comment_and_not_a_heap_of_them():
    client = Stalled()
    stream = EventStream(client, [], first_s=0.01, every_s=0.01)
    await asyncio.sleep(0.3)
    assert client.waiting == 1
    client.reads.set()
    await asyncio.sleep(0.1)
    assert client.sent.count(COMMENT) > 1, "and more of them when it reads again"
    await stream.close()
