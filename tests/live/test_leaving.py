"""The client leaves: the provider's connection is closed within 250 ms, and what was delivered is settled.

Both ends' moments are on the monotonic clock that the processes of a machine share.
"""

from __future__ import annotations

from typing import Any

import pytest
from openai import OpenAI

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script, Seen
from tests.live.books import Booked, Books
from tests.live.catalog import PRICES
from tests.live.gateway import Server
from tests.live.wire import WireClient

CLOSED_WITHIN_S = 0.25
WORD = "abcdefg "
WORD_TOKENS = 2
WORDS = 60
PROMPT = "Tell me everything."
PROMPT_TOKENS = 5

by_reset = pytest.mark.parametrize("by_reset", [False, True], ids=["fin", "rst"])


@pytest.fixture
def asked() -> dict[str, Any]:
    return {"model": "slow", "messages": [{"role": "user", "content": PROMPT}], "stream": True}


def settled(books: Books, label: str) -> Booked:
    booked = books.of_request(label, is_over=lambda booked: "open" not in booked.states)
    assert (booked.end_state, booked.held_microcredits > 0) == ("client_gone", True)
    return booked


def assert_closed_soon(provider: FakeProvider, left_s: float) -> Seen:
    (seen,) = provider.wait_for(lambda requests: all(seen.closed_s for seen in requests))
    assert seen.answered_s is None
    assert seen.closed_s is not None
    assert 0 <= seen.closed_s - left_s <= CLOSED_WITHIN_S
    return seen


@by_reset
@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_in_the_middle_of_a_stream(
    server: Server,
    provider: FakeProvider,
    keys: dict[str, str],
    books: Books,
    label: str,
    asked: Any,
    count: int,
    by_reset,
):
    provider.script("slow", Script(text=WORD * WORDS, delay_between_s=0.05))
    with WireClient(server.port, keys["acme"], asked, x_request_id=label) as client:
        assert client.read_head()[0] == 200
        assert client.read_contents(count) == [WORD] * count
        left_s = client.leave(by_reset=by_reset)
    seen = assert_closed_soon(provider, left_s)
    booked = settled(books, label)
    most = min(count + 1, seen.events_sent - 1)  # one may have been on its way; the first event is the role
    assert count * WORD_TOKENS <= booked.completion_tokens <= most * WORD_TOKENS
    assert (booked.usage_source, booked.prompt_tokens) == ("estimated", PROMPT_TOKENS)
    input_microcredits, output_microcredits = PRICES["slow"]
    cost = PROMPT_TOKENS * input_microcredits + booked.completion_tokens * output_microcredits
    assert booked.charged_microcredits == booked.entry_microcredits == cost
    assert booked.states == ["settled"]


def test_the_official_client_closes_its_stream(client: OpenAI, provider: FakeProvider, books: Books, label: str):
    provider.script("slow", Script(text=WORD * WORDS, delay_between_s=0.05))
    messages: Any = [{"role": "user", "content": PROMPT}]
    stream = client.chat.completions.create(model="slow", messages=messages, stream=True, extra_headers={"x-request-id": label})
    words = 0
    for chunk in stream:
        words += bool(chunk.choices[0].delta.content)
        if words == 5:
            break
    stream.close()
    provider.wait_for(lambda requests: all(seen.closed_s for seen in requests))
    booked = settled(books, label)
    assert 5 * WORD_TOKENS <= booked.completion_tokens <= 6 * WORD_TOKENS
    assert booked.entry_microcredits > 0


@by_reset
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "script",
    [Script(hang="head"), Script(hang="body"), Script(hang_after=1)],
    ids=["before-the-head", "before-the-body", "before-the-first-word"],
)
def test_before_anything_was_said(
    server: Server,
    provider: FakeProvider,
    keys: dict[str, str],
    books: Books,
    label: str,
    asked: Any,
    script: Script,
    is_stream,
    by_reset,
):
    """Nothing is charged, nothing stays held, and no fallback is called for somebody who has gone."""
    provider.script("slow", script if is_stream or script.hang_after is None else Script(delay_first_s=60))
    with WireClient(server.port, keys["acme"], asked | {"stream": is_stream}, x_request_id=label) as client:
        provider.wait_for(lambda requests: len(requests) == 1)
        left_s = client.leave(by_reset=by_reset)
    assert_closed_soon(provider, left_s)
    booked = settled(books, label)
    assert (booked.charged_microcredits, booked.entries, booked.states) == (0, (), ["voided"])
    assert booked.results == ("cancelled",)


def test_after_the_last_byte_nobody_has_left(
    server: Server, provider: FakeProvider, keys: dict[str, str], books: Books, label: str, asked: Any
):
    """A client that hangs up on `[DONE]` has had the whole answer, and its provider's connection is kept."""
    provider.script("slow", Script(text=WORD * 3, usage={"prompt_tokens": 9, "completion_tokens": 6}))
    with WireClient(server.port, keys["acme"], asked, x_request_id=label) as client:
        client.read_head()
        while client.read_event() != b"data: [DONE]":
            pass
        client.leave(by_reset=True)
    booked = books.of_request(label)
    assert (booked.end_state, booked.usage_source, booked.completion_tokens) == ("done", "reported", 6)
    (seen,) = provider.requests()
    assert seen.closed_s is None
