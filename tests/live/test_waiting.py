"""A provider that takes its time: keep-alive comments, and facts that come in the credits chunk instead of in headers.

The server of this suite sends its first comment after two seconds; see `settings.py`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import openai
import pytest
from openai import OpenAI

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import read_stream
from tests.live.books import Books
from tests.live.catalog import PRICES
from tests.live.gateway import Server
from tests.live.settings import KEEP_ALIVE_FIRST_S
from tests.live.wire import WireClient

COMMENT = b": keep-alive"
LESS_THAN_A_FIRST_TOKEN_S = 30
"""Of `thinking`, which may be idle for a moment only."""
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


@pytest.mark.slow
def test_a_slow_first_token(server: Server, provider: FakeProvider, keys: dict[str, str], books: Books, label: str):
    provider.script("slow", Script(text="At last.", usage=USAGE, delay_first_s=KEEP_ALIVE_FIRST_S + 1))
    body: dict[str, Any] = {
        "model": "slow",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "top_k": 2,
        "made_up": 1,
    }
    with WireClient(server.port, keys["acme"], body, x_request_id=label) as client:
        status, headers = client.read_head()
        events = []
        while event := client.read_event():
            events.append(event)
    assert status == 200
    assert headers["x-request-id"] == label
    assert "x-model-used" not in headers, "nobody knows yet"
    comments = [event for event in events if event == COMMENT]
    assert events[: len(comments)] == comments
    assert len(comments) >= 2
    *chunks, last, done = events[len(comments) :]
    assert done == b"data: [DONE]"
    text = "".join(msgspec.json.decode(chunk[6:])["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == "At last."
    facts = msgspec.json.decode(last[6:])
    assert facts["choices"] == []
    assert facts["model_used"] == "slow"
    assert facts["adaptations"] == ["ignored=made_up", "dropped=top_k"]
    assert not {"fallback_from", "fallback_depth", "stop_cause"}.intersection(facts)
    booked = books.of(facts["id"])
    input_microcredits, output_microcredits = PRICES["slow"]
    assert booked.entry_microcredits == 7 * input_microcredits + 3 * output_microcredits


@pytest.mark.slow
def test_leaving_while_only_comments_came(
    server: Server, provider: FakeProvider, keys: dict[str, str], books: Books, label: str
):
    provider.script("slow", Script(hang="head"))
    body: dict[str, Any] = {"model": "slow", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with WireClient(server.port, keys["acme"], body, x_request_id=label) as client:
        assert client.read_head()[0] == 200
        assert client.read_event() == COMMENT
        client.leave(by_reset=False)
    provider.wait_for(lambda requests: all(seen.closed_s for seen in requests))
    booked = books.of_request(label)
    assert (booked.end_state, booked.charged_microcredits, booked.states) == ("client_gone", 0, ["voided"])


@pytest.mark.slow
def test_a_silence_in_the_middle(server: Server, provider: FakeProvider, keys: dict[str, str], label: str):
    """After the first chunk headers are out and true; comments fill the silence all the same."""
    provider.script("slow", Script(text="one two", delay_between_s=0.9))
    body: dict[str, Any] = {"model": "slow", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with WireClient(server.port, keys["acme"], body, x_request_id=label) as client:
        _, headers = client.read_head()
        events = []
        while event := client.read_event():
            events.append(event)
    assert headers["x-model-used"] == "slow"
    assert COMMENT in events
    assert b"model_used" not in events[-2]
    assert events[-1] == b"data: [DONE]"


@pytest.mark.slow
@pytest.mark.parametrize("script", [Script(delay_head_s=1.6), Script(delay_first_s=1.6)], ids=["head", "first chunk"])
def test_who_thinks_first_has_the_time_of_a_first_token(client: OpenAI, provider: FakeProvider, script: Script):
    """A head or a first chunk that comes after more than an idle stream may be silent for."""
    provider.script("thinking", script)
    stream = client.chat.completions.create(model="thinking", messages=[{"role": "user", "content": "Hello"}], stream=True)
    assert read_stream(list(stream), {}).text == script.text
    assert len(provider.requests()) == 1


@pytest.mark.slow
def test_behind_its_first_token_a_stream_may_be_idle_for_less(client: OpenAI, provider: FakeProvider, books: Books, label: str):
    provider.script("thinking", Script(text="one two three", delay_first_s=1.6, hang_after=3))
    stream = client.chat.completions.create(
        model="thinking", messages=[{"role": "user", "content": "Hi"}], stream=True, extra_headers={"x-request-id": label}
    )
    with ThreadPoolExecutor(1) as reader, pytest.raises(openai.APIError) as caught:
        reader.submit(list, stream).result(LESS_THAN_A_FIRST_TOKEN_S)
    assert caught.value.code == "upstream_timeout"
    assert books.of_request(label).end_state == "cut"


@pytest.mark.slow
def test_a_late_fallback(client: OpenAI, provider: FakeProvider, books: Books):
    """The first target's time is over only after the first comment; the chain serves all the same."""
    provider.script("late", Script(hang="head"))
    provider.script("second", Script(text="Served.", usage=USAGE))
    messages: Any = [{"role": "user", "content": "Hello"}]
    raw = client.chat.completions.with_raw_response.create(model="late", messages=messages, stream=True)
    headers = dict(raw.headers.items())
    answer = read_stream(list(raw.parse()), headers)
    assert "x-model-used" not in headers
    assert (answer.model, answer.text) == ("second", "Served.")
    assert answer.extra == {"model_used": "second", "fallback_from": "late", "fallback_depth": 1}
    booked = books.of(answer.id)
    assert booked.entry_microcredits == answer.charged_microcredits == 7 * 50 + 3 * 200
    assert booked.results == ("upstream_timeout", "served")


@pytest.mark.slow
def test_a_late_failure(client: OpenAI, provider: FakeProvider, books: Books, label: str):
    """Status 200 is out by then, so the error is an event of the stream; it is free like any other."""
    provider.script("late", Script(hang="head"))
    provider.script("second", Script(status=500))
    stream = client.chat.completions.create(
        model="late", messages=[{"role": "user", "content": "Hi"}], stream=True, extra_headers={"x-request-id": label}
    )
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "upstream_timeout"
    booked = books.of_request(label)
    assert (booked.charged_microcredits, booked.entries, booked.states) == (0, (), ["voided"])
