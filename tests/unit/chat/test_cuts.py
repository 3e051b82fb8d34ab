"""A stream full of characters of many bytes, cut anywhere: the client gets the same bytes.

What the bytes of a provider become is decided by the SSE decoder alone as far as cuts are concerned. So two things are
shown: that what comes out at the end is the same for cuts at hand, and that the decoder is in the same state after any
prefix however that came in its last two pieces, from which the rest follows for any number of cuts.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
from typing import Any

import pytest

from chat.encode import Head, StreamEncoder
from chat.providers.registry import ADAPTERS
from chat.sse import SseDecoder
from tests.unit.chat.values import asked_of, request

SIZE_BYTES = 1024
EMOJI = "😀👩‍👩‍👧‍👦🇪🇺é€𝄞"


def chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    body = {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode()


def stream_of(size_bytes: int) -> bytes:
    """A stream of so many bytes, with each of the three ends that a line may have."""
    parts = [chunk({"content": EMOJI}) + end + end for end in (b"\r\n", b"\n", b"\r", b"\r\n", b"\n", b"\r\n")]
    last = chunk({}, "stop") + b"\r\n\r\n" + b"data: [DONE]\r\n\r\n"
    body = b"\xef\xbb\xbf" + b"".join(parts)
    return body + b":" + b"-" * (size_bytes - len(body) - len(last) - 3) + b"\r\n" + last


BODY = stream_of(SIZE_BYTES)


def out_of(*pieces: bytes) -> bytes:
    """What the client gets of a provider's bytes that come in these pieces."""
    asked = asked_of(request(stream=True))
    sse, decoder, encoder = SseDecoder(), ADAPTERS["openai"].stream(asked), StreamEncoder(Head("id", 1, "m"))
    out = []
    for piece in pieces:
        chunks = [decoder.decode(event.event, event.data) for event in sse.feed(piece)]
        out.append(encoder.frames([one for one in chunks if one is not None]))
    decoder.flush()
    assert decoder.is_done
    return b"".join(out)


def cut_at(*cuts: int) -> list[bytes]:
    return [BODY[start:end] for start, end in itertools.pairwise((0, *cuts, SIZE_BYTES))]


def test_the_whole_is_what_was_said():
    assert len(BODY) == SIZE_BYTES
    events = SseDecoder().feed(out_of(BODY))
    said = [json.loads(event.data)["choices"][0]["delta"].get("content") or "" for event in events]
    assert "".join(said) == EMOJI * 6


def test_every_cut_in_two():
    whole = out_of(BODY)
    assert [cut for cut in range(1, SIZE_BYTES) if out_of(*cut_at(cut)) != whole] == []


@pytest.mark.parametrize(
    "count",
    [pytest.param(1500, id="short"), pytest.param(100_000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(600)])],
)
@pytest.mark.parametrize("cuts", [2, 3])
def test_cuts_in_more_pieces(cuts: int, count: int):
    chance, whole = random.Random(cuts), out_of(BODY)
    for _ in range(count):
        places = sorted(chance.sample(range(1, SIZE_BYTES), cuts))
        assert out_of(*cut_at(*places)) == whole, places


def state_of(decoder: SseDecoder) -> dict[str, Any]:
    """All that a decoder remembers."""
    return {name: getattr(decoder, name) for name in SseDecoder.__slots__}


@pytest.mark.parametrize(
    "step", [pytest.param(11, id="short"), pytest.param(1, id="long", marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_a_prefix_leaves_the_same_state_however_it_came(step: int):
    """By induction, the last piece being the one that is looked at: any number of cuts gives the same events."""
    events_after, states_after, decoders = [], [], []
    for end in range(SIZE_BYTES + 1):
        decoder = SseDecoder()
        events_after.append(decoder.feed(BODY[:end]))
        states_after.append(state_of(copy.deepcopy(decoder)))
        decoders.append(decoder)
    for middle in range(0, SIZE_BYTES, step):
        for end in range(middle + 1, SIZE_BYTES + 1, step):
            decoder = copy.deepcopy(decoders[middle])
            events = events_after[middle] + decoder.feed(BODY[middle:end])
            assert (events, state_of(decoder)) == (events_after[end], states_after[end]), (middle, end)
