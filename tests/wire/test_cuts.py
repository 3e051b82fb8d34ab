"""A stream that is cut, after each of its events: the client never sees a finish that the provider did not send."""

from __future__ import annotations

import json
import re

import pytest

from chat.sse import SseDecoder
from tests.wire.cases import Case
from tests.wire.folding import events_of
from tests.wire.providers import PROVIDERS

CUT = {"anthropic": ("thinking_kept", "text"), "gemini": ("reasoning_with_call", "text")}


def pieces_of(sse: bytes) -> list[bytes]:
    """The bytes of each event, with the blank line that ends it."""
    return re.findall(rb".+?(?:\n\n|\r\n\r\n)", sse, re.DOTALL)


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


def test_a_stream_that_is_cut_after_any_event_is_never_a_whole_answer(streamed_case):
    """Only where the provider says that it ends here: not before, and from then on even if the rest is missing."""
    sse, is_broken = streamed_case.sse, streamed_case.stream().is_cut
    decoder, has_ended = SseDecoder(), False
    assert streamed_case.stream([]).is_cut
    for end in range(1, len(sse) + 1):
        for event in decoder.feed(sse[end - 1 : end]):
            has_ended = has_ended or streamed_case.provider.ends(event)
            assert streamed_case.stream([sse[:end]]).is_cut is (is_broken or not has_ended)
