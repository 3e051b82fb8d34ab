"""Every provider, both modes, byte for byte: what goes out, what comes in, what the client gets. See `cases.py`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat.sse import DONE_DATA, SseDecoder
from tests.wire.cases import BY_HAND, cases
from tests.wire.folding import folded, whole
from tests.wire.providers import PROVIDERS

EVERYWHERE = {
    *("text", "system", "multi_turn", "images", "pdf", "reasoning", "caching", "sampling", "stop", "length", "stream_cut"),
    *("tools", "tools_parallel", "tool_results", "tool_choice_required", "tool_choice_named", "tool_choice_none"),
    *("json_object", "json_schema"),
    *(f"error_{status}" for status in (400, 401, 403, 404, 413, 429, 500, 503)),
}
"""Cases that each provider has, under one name. Their folders say how its dialect differs."""


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_proves_the_same_things(provider):
    names = {name for owner, name in cases() if owner == provider}
    assert names >= EVERYWHERE
    assert len(names) >= 40


def test_goldens(case, is_writing):
    now = case.goldens()
    before = {path.name: path for path in case.folder.iterdir() if path.name not in BY_HAND}
    if is_writing:
        for name in set(before) - set(now):
            before[name].unlink()
        for name, data in now.items():
            (case.folder / name).write_bytes(data)
        return
    assert {name: data.decode() for name, data in now.items()} == {name: path.read_text() for name, path in before.items()}


def test_what_goes_out_is_what_the_official_sdk_would_send(asking_case):
    provider, adapter = asking_case.provider, asking_case.adapter
    for is_stream, check in ((False, provider.asked), (True, provider.asked_to_stream)):
        asked, _, _ = asking_case.asked(is_stream=is_stream)
        body = json.loads(adapter.build(asked).body)
        if not asking_case.settings.is_odd:
            check(body)


def test_what_comes_in_is_what_the_official_sdk_expects(case):
    """A case proves little if no provider would send it."""
    settings, provider = case.settings, case.provider
    if settings.is_odd or settings.status != 200:
        return
    if case.reply is not None:
        provider.replied(json.loads(case.reply))
    if case.sse is not None:
        for event in SseDecoder().feed(case.sse):
            if event.data != DONE_DATA:
                provider.streamed(json.loads(event.data))


def test_a_stream_amounts_to_the_whole_reply(both_ways_case):
    streamed, replied = both_ways_case.stream(), both_ways_case.whole()
    assert streamed.status == replied.status
    if replied.status == 200:
        assert folded(streamed.body) == whole(replied.body)
        assert streamed.states == replied.states
        assert streamed.is_schema_valid == replied.is_schema_valid


@pytest.mark.slow
def test_nothing_depends_on_where_the_bytes_were_cut(streamed_case):
    sse, uncut = streamed_case.sse, streamed_case.stream()
    assert streamed_case.stream([sse[at : at + 1] for at in range(len(sse))]) == uncut, "each byte by itself"

    @settings(max_examples=10)
    @given(places=st.lists(st.integers(0, len(sse)), max_size=8))
    def cut(places):
        cuts = sorted(places)
        parts = [sse[start:end] for start, end in zip([0, *cuts], [*cuts, len(sse)], strict=True)]
        assert streamed_case.stream(parts) == uncut

    cut()
