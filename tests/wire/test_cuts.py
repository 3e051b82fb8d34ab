"""A stream that is cut, after each of its events: the client never sees a finish that the provider did not send."""

from __future__ import annotations

import json

import pytest

from chat.sse import SseDecoder
from tests.wire.cases import Case
from tests.wire.folding import events_of
from tests.wire.providers import PROVIDERS

CUT = {"anthropic": ("thinking_kept", "text")}


def pieces_of(sse: bytes) -> list[bytes]:
    """The bytes of each event, with the blank line that ends it."""
    return [piece + b"\n\n" for piece in sse.split(b"\n\n") if piece.strip()]


def finished(frames: bytes) -> bool:
    chunks = [json.loads(data) for data in events_of(frames) if data != b"[DONE]"]
    return any(choice["finish_reason"] for chunk in chunks for choice in chunk.get("choices", []))


def test_every_provider_has_streams_to_cut():
    assert set(CUT) == set(PROVIDERS)


@pytest.mark.parametrize(("provider", "name"), [(provider, name) for provider, names in CUT.items() for name in names])
def test_a_stream_is_whole_or_fails(provider, name):
    case = Case(provider, name)
    pieces = pieces_of(case.sse)
    events = SseDecoder().feed(case.sse)
    assert len(events) == len(pieces)
    end = next(position for position, event in enumerate(events, 1) if case.provider.ends(event))
    whole = case.stream()
    states = set()
    for count in range(len(pieces)):
        answer = case.stream(pieces[:count])
        states.add(answer.status)
        assert answer.is_cut is (count < end)
        if not answer.is_cut:
            assert finished(answer.body)
        elif answer.status == 200:
            *frames, error = events_of(answer.body)
            assert json.loads(error)["error"]["code"] == "upstream_error"
            assert frames == events_of(whole.body)[: len(frames)]
            assert not finished(answer.body)
        else:
            assert answer.status == 502
    assert states == {200, 502}
