"""Errors as the official Python client raises them: its own classes, with our code, type, param and headers."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import ask, assert_booked, texts
from tests.live.books import Books
from tests.live.install import REQUESTS_PER_MINUTE

both_modes = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def assert_refused(error: openai.APIStatusError, status: int, kind: str, code: str, param: str | None = None) -> None:
    assert error.status_code == status
    assert (error.type, error.code, error.param) == (kind, code, param)
    assert error.response.headers["content-type"] == "application/json; charset=utf-8"
    assert error.response.headers["x-credits-used"] == "0"
    assert error.request_id


@both_modes
@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"temperature": 3}, "out_of_range", "temperature"),
        ({"max_tokens": 10**6}, "above_model_maximum", "max_tokens"),
        ({"model": "plain", "tools": [{"type": "function", "function": {"name": "f"}}]}, "unsupported_parameter", "tools"),
        ({"extra_body": {"api_base": "http://example.com"}}, "unknown_parameter", "api_base"),
        ({"extra_body": {"made_up": 1}, "extra_headers": {"x-strict": "true"}}, "unknown_parameter", "made_up"),
        ({"extra_body": {"top_k": 5}, "extra_headers": {"x-strict": "true"}}, "unsupported_parameter", "top_k"),
        ({"extra_headers": {"idempotency-key": "with spaces in it"}}, "invalid_idempotency_key", "Idempotency-Key"),
    ],
    ids=["range", "limit", "capability", "redirection", "strict-unknown", "strict-adaptation", "idempotency-key"],
)
def test_bad_request(
    client: OpenAI,
    provider: FakeProvider,
    books: Books,
    label: str,
    fields: dict[str, Any],
    code: str,
    param: str,
    stream,
):
    headers = {"x-request-id": label, **fields.get("extra_headers", {})}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, stream=stream, **(fields | {"extra_headers": headers}))
    assert_refused(caught.value, 400, "invalid_request_error", code, param)
    assert caught.value.request_id == label
    assert provider.requests() == []
    booked = books.of_request(label)
    assert (booked.status, booked.end_state, booked.error_code, booked.holds) == (400, "refused", code, ())


@both_modes
def test_wrong_key(client: OpenAI, stream):
    with pytest.raises(openai.AuthenticationError) as caught:
        ask(client.with_options(api_key="inf_wrong"), stream=stream)
    assert_refused(caught.value, 401, "auth_error", "invalid_api_key")


@both_modes
def test_no_credits(client: OpenAI, provider: FakeProvider, keys: dict[str, str], books: Books, label: str, stream):
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client.with_options(api_key=keys["broke"]), stream=stream, extra_headers={"x-request-id": label})
    assert type(caught.value) is openai.APIStatusError
    assert_refused(caught.value, 402, "quota_exceeded", "insufficient_credits")
    assert "0 are available" in caught.value.message
    assert provider.requests() == []
    booked = books.of_request(label)
    assert (booked.status, booked.error_code, booked.charged_microcredits) == (402, "insufficient_credits", 0)
    assert "open" not in booked.states


@both_modes
def test_unknown_model(client: OpenAI, stream):
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, model="no-such-model", stream=stream)
    assert_refused(caught.value, 404, "invalid_request_error", "model_not_found", "model")


def test_unknown_model_looked_up(client: OpenAI):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no-such-model")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_unknown_url(client: OpenAI):
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="main", input="x")
    assert (caught.value.type, caught.value.code) == ("invalid_request_error", "unknown_url")


def test_unsupported_media_type(client: OpenAI):
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, extra_headers={"content-type": "text/plain"})
    assert_refused(caught.value, 415, "invalid_request_error", "unsupported_media_type")


def test_too_large(client: OpenAI):
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, "x" * (20 * 1024 * 1024))
    assert_refused(caught.value, 413, "invalid_request_error", "request_too_large")


def test_rate_limit(client: OpenAI, provider: FakeProvider, keys: dict[str, str]):
    """The key's limit is on every answer; past it the client raises RateLimitError, and says when to come back."""
    limited = client.with_options(api_key=keys["limited"])
    remaining = []
    for number in range(REQUESTS_PER_MINUTE):
        answer = ask(limited, stream=number % 2 == 1)
        assert answer.headers["x-ratelimit-limit-requests"] == str(REQUESTS_PER_MINUTE)
        assert answer.headers["x-ratelimit-reset-requests"]
        remaining.append(int(answer.headers["x-ratelimit-remaining-requests"]))
    assert remaining == list(reversed(range(REQUESTS_PER_MINUTE)))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(limited)
    assert_refused(caught.value, 429, "rate_limit_error", "rate_limit_exceeded")
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 120
    assert f"Rate limit: {REQUESTS_PER_MINUTE} req/min on this API key" in caught.value.message
    assert len(provider.requests()) == REQUESTS_PER_MINUTE


@both_modes
@pytest.mark.parametrize(
    ("status", "error_class", "code"),
    [(500, openai.InternalServerError, "upstream_error"), (429, openai.RateLimitError, "upstream_rate_limited")],
    ids=["500", "429"],
)
def test_failure_of_the_provider(
    client: OpenAI, provider: FakeProvider, status: int, error_class: type[openai.APIStatusError], code: str, stream
):
    provider.script("alone", Script(status=status))
    with pytest.raises(error_class) as caught:
        ask(client, model="alone", stream=stream)
    assert caught.value.code == code


@both_modes
def test_the_client_tries_again_by_itself(client: OpenAI, provider: FakeProvider, books: Books, label: str, stream):
    """With its own retries on, as customers have it, a provider that recovers is not even noticed; one answer is paid."""
    provider.script("alone", Script(status=503, headers={"retry-after": "1"}), Script(text="Here I am."))
    answer = ask(client.with_options(max_retries=2), model="alone", stream=stream, extra_headers={"x-request-id": label})
    assert answer.text == "Here I am."
    assert_booked(books, answer)
    assert books.count(label) == 2


@both_modes
def test_the_client_does_not_retry_in_vain(client: OpenAI, provider: FakeProvider, stream):
    """Our account is refused: `x-should-retry: false` stops the client's own retries, although the status is a 502."""
    provider.script("alone", Script(status=401))
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client.with_options(max_retries=2), model="alone", stream=stream)
    assert caught.value.code == "upstream_auth_failed"
    assert len(provider.requests()) == 1


def test_error_inside_a_stream(client: OpenAI, provider: FakeProvider):
    provider.script("alone", Script(text="one two three four", cut_after=3))
    stream = client.chat.completions.create(model="alone", messages=[{"role": "user", "content": "Count."}], stream=True)
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        chunks.extend(stream)
    assert texts(chunks) == "one two "
    assert (caught.value.type, caught.value.code) == ("server_error", "upstream_error")
