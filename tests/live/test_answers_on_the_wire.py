"""What SDKs hide: exact bytes of a stream, headers of every answer, the list of models, dry runs."""

from __future__ import annotations

import re
from typing import Any

import httpx
import msgspec
import pytest
from openai import OpenAI

from billing.pricing import microcredits
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import ask
from tests.live.books import Books
from tests.live.catalog import MAX_OUTPUT_TOKENS, PRICES

both_modes = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "main", "messages": [{"role": "user", "content": "Hello"}], **fields}


def test_bytes_of_a_stream(http: httpx.Client, provider: FakeProvider, books: Books):
    provider.script("main", Script(text="Hi there", usage={"prompt_tokens": 5, "completion_tokens": 2}))
    response = http.post("/chat/completions", json=body(stream=True))
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = response.text.split("\n\n")
    assert events.pop() == "", "every event ends with a blank line"
    assert events.pop() == "data: [DONE]"
    chunks = [msgspec.json.decode(event.removeprefix("data: ")) for event in events]
    same = {name: chunks[0][name] for name in ("id", "object", "created", "model")}
    fingerprint = {"system_fingerprint": "fp_fake"}

    def choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}

    assert same["model"] == "main"
    assert chunks == [
        same | {"choices": [choice({"role": "assistant", "content": ""})]} | fingerprint,
        same | {"choices": [choice({"content": "Hi "})]} | fingerprint,
        same | {"choices": [choice({"content": "there"})]} | fingerprint,
        same | {"choices": [choice({}, "stop")]} | fingerprint,
        same
        | {
            "choices": [],
            "usage": {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "total_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
            "credits_used": 0.00325,
        },
    ]
    assert books.of(same["id"]).entry_microcredits == 3250


def test_credits_are_a_number_with_all_its_digits(http: httpx.Client, provider: FakeProvider):
    provider.script("main", Script(usage={"prompt_tokens": 4, "completion_tokens": 999}))
    response = http.post("/chat/completions", json=body())
    assert b'"credits_used":1}' in response.content.replace(b',"system_fingerprint":"fp_fake"', b"")
    assert response.headers["x-credits-used"] == "1"
    provider.script("main", Script(usage={"prompt_tokens": 1, "completion_tokens": 1}))
    response = http.post("/chat/completions", json=body())
    assert b'"credits_used":0.00125' in response.content


@both_modes
def test_headers_of_a_success(client: OpenAI, provider: FakeProvider, label: str, stream):
    answer = ask(client, stream=stream, extra_headers={"x-request-id": label})
    headers = answer.headers
    assert headers["x-request-id"] == label
    assert headers["x-model-used"] == "main"
    assert re.fullmatch(r"gateway;dur=\d+, upstream;dur=\d+", headers["server-timing"])
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert not [name for name in headers if name.startswith(("x-fallback", "x-ratelimit", "x-request-adapt"))]


@both_modes
@pytest.mark.parametrize("offered", ["spaces in it", "x" * 129, "", 'quo"te', "semi;colon"])
def test_a_label_that_cannot_be_used_is_replaced(client: OpenAI, stream, offered: str):
    minted = ask(client, stream=stream, extra_headers={"x-request-id": offered}).headers["x-request-id"]
    assert minted != offered
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", minted)


@both_modes
def test_two_requests_may_bear_one_label(client: OpenAI, books: Books, label: str, stream):
    first, second = (ask(client, stream=stream, extra_headers={"x-request-id": label}) for _ in range(2))
    assert first.id != second.id
    assert first.headers["x-request-id"] == second.headers["x-request-id"] == label
    assert books.count(label) == 2


@both_modes
def test_adaptations_are_listed(client: OpenAI, provider: FakeProvider, stream):
    extra = {"top_k": 5, "made_up": 1, "other, one": {}}
    answer = ask(client, stream=stream, metadata={"team": "a"}, store=True, extra_body=extra)
    listed = answer.headers["x-request-adaptations"].split(",")
    assert sorted(listed) == ["dropped=metadata", "dropped=top_k", "ignored=made_up", "ignored=other??one", "ignored=store"]
    (seen,) = provider.requests()
    assert not {"top_k", "made_up", "other, one", "metadata", "store"}.intersection(seen.json)


@both_modes
def test_what_a_model_cannot_do_is_asked_for_in_words(client: OpenAI, provider: FakeProvider, stream):
    answer = ask(client, model="plain", response_format={"type": "json_object"}, stream=stream)
    assert answer.headers["x-request-adaptations"] == "response_format=instruction"
    (seen,) = provider.requests()
    assert "response_format" not in seen.json
    assert "JSON" in seen.json["messages"][0]["content"]


@both_modes
def test_dry_run(http: httpx.Client, provider: FakeProvider, books: Books, label: str, stream):
    asked = body(model="first", max_tokens=100, stream=stream, top_k=3, made_up=1)
    response = http.post("/chat/completions?dry_run=true", json=asked, headers={"x-request-id": label})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-credits-used"] == "0"
    quote = response.json()
    assert quote["object"] == "chat.completion.quote"
    assert [step["model"] for step in quote["route"]] == ["first", "second", "third"]
    assert quote["route"][0]["adaptations"] == ["dropped=top_k"]
    assert quote["ignored"] == ["made_up"]
    assert (quote["is_admitted"], quote["refusal"]) == (True, None)
    assert 0 < quote["credits_low"] <= quote["credits_high"]
    assert provider.requests() == []
    booked = books.of_request(label)
    assert (booked.status, booked.end_state, booked.charged_microcredits, booked.holds) == (200, "dry_run", 0, ())


def test_dry_run_through_the_client(client: OpenAI, provider: FakeProvider):
    raw = client.chat.completions.with_raw_response.create(
        model="main", messages=[{"role": "user", "content": "Hello"}], extra_query={"dry_run": "true"}
    )
    assert msgspec.json.decode(raw.content)["object"] == "chat.completion.quote"
    assert provider.requests() == []


def test_a_quote_bounds_what_is_held_and_charged(client: OpenAI, http: httpx.Client, books: Books):
    asked = body(model="second", max_tokens=64)
    quote = msgspec.json.decode(http.post("/chat/completions?dry_run=true", json=asked).content)
    answer = ask(client, model="second", max_tokens=64)
    booked = books.of(answer.id)
    assert booked.held_microcredits == microcredits(str(quote["credits_high"]))
    assert microcredits(str(quote["credits_low"])) <= booked.entry_microcredits <= booked.held_microcredits


def test_models(client: OpenAI):
    models = {model.id: model for model in client.models.list()}
    assert models.keys() == PRICES.keys()
    assert {(model.object, model.owned_by) for model in models.values()} == {("model", "live")}
    one: Any = client.models.retrieve("main")
    assert one.to_dict() == models["main"].to_dict()
    assert (one.name, one.context_window, one.max_output_tokens) == ("Main", 128_000, MAX_OUTPUT_TOKENS)
    assert one.supportsVision is True
    assert (one.supportsPdf, one.supportsAudioInput) == (True, False)
    assert (one.prices["input"], one.prices["output"], one.prices["cached_input"]) == (250, 1000, 250)


def test_connections_are_kept(http: httpx.Client, provider: FakeProvider):
    """An answer in either mode leaves its connection to the provider open for the next one."""
    for number in range(6):
        assert http.post("/chat/completions", json=body(stream=number % 2 == 0)).status_code == 200
    assert [seen.closed_s for seen in provider.requests()] == [None] * 6
