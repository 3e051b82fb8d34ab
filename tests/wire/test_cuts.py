"""A stream that is cut, after each of its events: the client never sees a finish that the provider did not send."""

from __future__ import annotations

import json

from chat.sse import DONE_DATA, SseDecoder
from tests.wire.folding import events_of


def pieces_of(sse: bytes) -> list[bytes]:
    """The bytes up to the end of each event."""
    decoder, pieces, start = SseDecoder(), [], 0
    for end in range(1, len(sse) + 1):
        if decoder.feed(sse[end - 1 : end]):
            pieces.append(sse[start:end])
            start = end
    return pieces


def finish_reasons(frames: list[bytes]) -> list[str]:
    chunks = [json.loads(data) for data in frames if data != DONE_DATA]
    return [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]


def test_a_stream_that_is_cut_is_never_a_whole_answer(streamed_case):
    """It is whole only from where the provider says that it ends, even if the rest is missing."""
    whole, ends = streamed_case.stream(), streamed_case.provider.ends
    pieces = pieces_of(streamed_case.sse)
    events = [event for piece in pieces for event in SseDecoder().feed(piece)]
    for count in range(len(pieces) + 1):
        has_ended = not whole.is_cut and any(map(ends, events[:count]))
        answer = streamed_case.stream(pieces[:count])
        assert answer.is_cut is not has_ended
        if answer.status != 200:
            continue
        *frames, last = events_of(answer.body)
        if has_ended:
            assert last == DONE_DATA
            assert finish_reasons(frames)
        else:
            assert "error" in json.loads(last)
            assert frames == events_of(whole.body)[: len(frames)]
