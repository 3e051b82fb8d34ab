"""`x-strict`: no target gets a request that was changed for it, whether it is asked first, second, or as a fallback."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import ask, assert_booked
from tests.live.books import Books

STRICT = {"x-strict": "true"}
FORMAT: Any = {"type": "json_object"}

both_modes = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def models_called(provider: FakeProvider) -> list[str]:
    return [seen.json["model"] for seen in provider.requests()]


@both_modes
def test_a_fallback_that_would_need_an_adaptation_is_left_out(client: OpenAI, provider: FakeProvider, books: Books, stream):
    """`plain` would be asked for JSON in words; the one behind it knows the parameter and keeps its place in the chain."""
    provider.script("picky", Script(status=500))
    answer = ask(client, model="picky", response_format=FORMAT, stream=stream, extra_headers=STRICT)
    assert models_called(provider) == ["picky", "third"]
    assert (answer.model, answer.headers["x-fallback-depth"]) == ("third", "2")
    assert "x-request-adaptations" not in answer.headers
    assert_booked(books, answer)


@both_modes
def test_without_it_the_same_fallback_serves_and_says_what_was_changed(client: OpenAI, provider: FakeProvider, stream):
    provider.script("picky", Script(status=500))
    answer = ask(client, model="picky", response_format=FORMAT, stream=stream)
    assert (answer.model, answer.headers["x-request-adaptations"]) == ("plain", "response_format=instruction")


@both_modes
def test_a_target_that_would_need_an_adaptation_is_left_out(client: OpenAI, provider: FakeProvider, stream):
    """Of the two targets of `forked` one takes `top_k`; whichever the dice would put first, that one is asked."""
    for _ in range(6):
        answer = ask(client, model="forked", stream=stream, extra_headers=STRICT, extra_body={"top_k": 5})
        assert "x-request-adaptations" not in answer.headers
    assert models_called(provider) == ["forked-with"] * 6
    assert {seen.json["top_k"] for seen in provider.requests()} == {5}


@both_modes
def test_an_answer_is_taken_back_with_its_reasoning(client: OpenAI, provider: FakeProvider, stream):
    """What the gateway itself gave; that it goes no further is told."""
    provider.script("main", Script(reasoning="Two and two.", text="Four."))
    first = ask(client, "2+2?", stream=stream, extra_headers=STRICT)
    said = {"role": "assistant", "content": first.text, "reasoning_content": first.parts[0].reasoning}
    talk = [{"role": "user", "content": "2+2?"}, said, {"role": "user", "content": "Sure?"}]
    answer = ask(client, talk, stream=stream, extra_headers=STRICT)
    assert answer.headers["x-request-adaptations"] == "dropped=messages.reasoning_content"
    assert "reasoning_content" not in provider.requests()[-1].json["messages"][1]


@both_modes
def test_the_other_target_is_not_the_way_out_of_a_failure(client: OpenAI, provider: FakeProvider, stream):
    provider.script("forked-with", Script(status=500))
    with pytest.raises(openai.InternalServerError):
        ask(client, model="forked", stream=stream, extra_headers=STRICT, extra_body={"top_k": 5})
    assert models_called(provider) == ["forked-with"]


@both_modes
def test_the_dry_run_shows_the_same_route(http: httpx.Client, stream):
    body = {"model": "picky", "messages": [{"role": "user", "content": "Hello"}], "response_format": FORMAT, "stream": stream}
    routes = {}
    for name, headers in (("strict", STRICT), ("lax", {})):
        quote = http.post("/chat/completions?dry_run=true", json=body, headers=headers).json()
        routes[name] = [(step["model"], step["fallback_depth"], step["adaptations"]) for step in quote["route"]]
    assert routes["strict"] == [("picky", 0, []), ("third", 2, [])]
    assert routes["lax"] == [("picky", 0, []), ("plain", 1, ["response_format=instruction"]), ("third", 2, [])]


@both_modes
def test_a_model_of_which_no_target_takes_it_refuses(client: OpenAI, provider: FakeProvider, stream):
    with pytest.raises(openai.BadRequestError) as refusal:
        ask(client, model="plain", response_format=FORMAT, stream=stream, extra_headers=STRICT)
    assert (refusal.value.code, refusal.value.param) == ("unsupported_parameter", "response_format")
    assert provider.requests() == []
