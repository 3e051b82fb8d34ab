"""A model whose target fails is served by its chain: what the client sees, and that only the one that served is paid."""

from __future__ import annotations

from typing import Any

import msgspec
import openai
import pytest
from openai import OpenAI

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import Answer, ask, assert_booked
from tests.live.books import Books

both_modes = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}
QUOTA = msgspec.json.encode({"error": {"message": "Empty.", "type": "insufficient_quota", "code": "insufficient_quota"}})
ERROR_IN_200 = msgspec.json.encode({"error": {"message": "Broken.", "type": "server_error", "code": None}})
NUMBER_IN_200 = {"error": {"message": "Slow down.", "type": None, "code": 429}}
NO_CHOICES = b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[]}'
GOOD = Script(text="Served.", usage=USAGE)

# Each failure of the first target, with the code that its attempt is noted under.
FAILURES: dict[str, tuple[Script, str]] = {
    "500": (Script(status=500), "upstream_error"),
    "502": (Script(status=502), "upstream_error"),
    "503": (Script(status=503), "model_overloaded"),
    "504": (Script(status=504), "upstream_timeout"),
    "529": (Script(status=529), "model_overloaded"),
    "429": (Script(status=429), "upstream_rate_limited"),
    "408": (Script(status=408), "upstream_timeout"),
    "405": (Script(status=405), "upstream_error"),
    "409": (Script(status=409), "upstream_error"),
    "425": (Script(status=425), "upstream_error"),
    "451": (Script(status=451), "upstream_error"),
    "401": (Script(status=401), "upstream_auth_failed"),
    "402": (Script(status=402), "upstream_auth_failed"),
    "403": (Script(status=403), "upstream_auth_failed"),
    "404-model": (Script(status=404), "upstream_model_unavailable"),
    "redirect": (Script(status=307, headers={"location": "http://127.0.0.1:1/"}), "upstream_error"),
    "quota": (Script(status=429, body=QUOTA), "upstream_auth_failed"),
    "closed-before-head": (Script(cut_head=True), "upstream_error"),
    "reset-before-head": (Script(cut_head=True, cut_with="rst"), "upstream_error"),
    "reset-in-body": (Script(cut_after_bytes=10, cut_with="rst"), "upstream_error"),
    "no-head-in-time": (Script(hang="head"), "upstream_timeout"),
    "no-body-in-time": (Script(hang="body"), "upstream_timeout"),
    "html": (Script(body=b"<html><body>Hello</body></html>", content_type="text/html"), "upstream_invalid_response"),
    "gave-up": (Script(text="", finish_reason="insufficient_system_resource"), "upstream_error"),
    "nothing": (Script(body=b"", framing="length"), "upstream_invalid_response"),
}
FAILURES_OF_WHOLE_ANSWERS = {
    "bad-json": (Script(body=b'{"choices": ['), "upstream_invalid_response"),
    "no-choices": (Script(body=NO_CHOICES), "upstream_invalid_response"),
    "error-in-200": (Script(body=ERROR_IN_200), "upstream_error"),
    "number-in-200": (Script(body=msgspec.json.encode(NUMBER_IN_200)), "upstream_rate_limited"),
}
FAILURES_OF_STREAMS = {
    "bad-json": (Script(events=(b'{"choices": [',)), "upstream_invalid_response"),
    "error-event-first": (Script(error_after=0), "upstream_error"),
    "number-event-first": (Script(error_after=0, error=NUMBER_IN_200), "upstream_rate_limited"),
    "error-event-after-role": (Script(error_after=1), "upstream_error"),
    "cut-after-role": (Script(cut_after=1), "upstream_error"),
    "silent-after-role": (Script(hang_after=1), "upstream_timeout"),
    "done-only": (Script(events=(b"[DONE]",), is_done_sent=False), "upstream_invalid_response"),
    "finished-never": (Script(events=(b'{"choices":[]}',)), "upstream_invalid_response"),
}
FAILURES_OF_ONE_MODE = [
    *[pytest.param(*failure, False, id=f"{name}-whole") for name, failure in FAILURES_OF_WHOLE_ANSWERS.items()],
    *[pytest.param(*failure, True, id=f"{name}-stream") for name, failure in FAILURES_OF_STREAMS.items()],
]


def assert_served_by(answer: Answer, model: str, depth: int, *, asked: str = "first") -> None:
    headers = answer.headers
    assert (answer.model, headers["x-model-used"]) == (model, model)
    if depth:
        assert (headers["x-fallback-from"], headers["x-fallback-depth"]) == (asked, str(depth))
    else:
        assert not {"x-fallback-from", "x-fallback-depth"}.intersection(headers)
    assert answer.extra == {}, "facts that stand in headers are not said again"


def models_called(provider: FakeProvider) -> list[str]:
    return [seen.json["model"] for seen in provider.requests()]


def assert_falls_back(client: OpenAI, provider: FakeProvider, books: Books, script: Script, code: str, *, stream: bool) -> None:
    provider.script("first", script)
    provider.script("second", GOOD)
    answer = ask(client, model="first", stream=stream)
    assert answer.text == "Served."
    assert_served_by(answer, "second", 1)
    booked = assert_booked(books, answer)
    assert booked.entry_microcredits == 7 * 50 + 3 * 200
    assert booked.results == (code, "served")
    assert booked.fallback_depth == 1
    assert len(booked.holds) == 1
    assert models_called(provider) == ["first", "second"]


@both_modes
@pytest.mark.parametrize("name", FAILURES)
def test_the_second_serves(client: OpenAI, provider: FakeProvider, books: Books, name: str, stream):
    assert_falls_back(client, provider, books, *FAILURES[name], stream=stream)


@pytest.mark.parametrize(("script", "code", "stream"), FAILURES_OF_ONE_MODE)
def test_the_second_serves_where_only_one_mode_can_fail(
    client: OpenAI, provider: FakeProvider, books: Books, script: Script, code: str, stream
):
    assert_falls_back(client, provider, books, script, code, stream=stream)


@pytest.mark.parametrize("model", ["unreachable", "encrypted"])
@both_modes
def test_no_connection(client: OpenAI, provider: FakeProvider, books: Books, model: str, stream):
    """Nobody listens; or what listens does not speak TLS."""
    provider.script("second", GOOD)
    answer = ask(client, model=model, stream=stream)
    assert_served_by(answer, "second", 1, asked=model)
    assert assert_booked(books, answer).results == ("upstream_error", "served")
    assert models_called(provider) == ["second"]


@both_modes
def test_chain_of_three(client: OpenAI, provider: FakeProvider, books: Books, stream):
    provider.script("first", Script(status=500))
    provider.script("second", Script(status=429))
    provider.script("third", GOOD)
    answer = ask(client, model="first", stream=stream)
    assert_served_by(answer, "third", 2)
    booked = assert_booked(books, answer)
    assert booked.entry_microcredits == 7 * 20 + 3 * 80
    assert booked.results == ("upstream_error", "upstream_rate_limited", "served")
    assert booked.fallback_depth == 2


@both_modes
def test_all_fail(client: OpenAI, provider: FakeProvider, books: Books, label: str, stream):
    """The failure of the model asked for, and how many were tried after it."""
    provider.script("first", Script(status=429, headers={"retry-after": "7"}))
    provider.script("second", Script(status=500))
    provider.script("third", Script(status=503))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, model="first", stream=stream, extra_headers={"x-request-id": label})
    assert caught.value.code == "upstream_rate_limited"
    headers = caught.value.response.headers
    assert (headers["x-fallback-from"], headers["x-fallback-depth"]) == ("first", "2")
    assert (headers["x-credits-used"], headers["retry-after"]) == ("0", "7")
    booked = books.of_request(label)
    assert (booked.charged_microcredits, booked.entries, booked.states) == (0, (), ["voided"])
    assert (booked.status, booked.end_state, booked.error_code) == (429, "failed", "upstream_rate_limited")
    assert booked.results == ("upstream_rate_limited", "upstream_error", "model_overloaded")


@both_modes
def test_a_model_that_cannot_serve_the_request_is_left_out(client: OpenAI, provider: FakeProvider, books: Books, stream):
    """`plain` takes no tools; the next one keeps its place in the chain. If that fails too, one was tried."""
    tools: Any = [{"type": "function", "function": {"name": "f"}}]
    provider.script("picky", Script(status=500))
    provider.script("third", GOOD)
    assert_served_by(ask(client, model="picky", stream=stream), "plain", 1, asked="picky")
    assert_served_by(ask(client, model="picky", tools=tools, stream=stream), "third", 2, asked="picky")
    provider.script("third", Script(status=500))
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, model="picky", tools=tools, stream=stream)
    assert caught.value.response.headers["x-fallback-depth"] == "1"


@both_modes
@pytest.mark.parametrize("value", ["true", "TRUE"])
def test_fallback_disabled(client: OpenAI, provider: FakeProvider, stream, value: str):
    provider.script("first", Script(status=500))
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, model="first", stream=stream, extra_headers={"x-disable-fallback": value})
    assert caught.value.code == "upstream_error"
    assert not [name for name in caught.value.response.headers if name.startswith("x-fallback")]
    assert models_called(provider) == ["first"]


@both_modes
@pytest.mark.parametrize(
    ("status", "answered", "code"),
    [(400, 400, "upstream_rejected_request"), (413, 413, "request_too_large"), (422, 400, "upstream_rejected_request")],
)
def test_faults_of_the_caller_do_not_fall_back(
    client: OpenAI, provider: FakeProvider, books: Books, label: str, status: int, answered: int, code: str, stream
):
    provider.script("first", Script(status=status))
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, model="first", stream=stream, extra_headers={"x-request-id": label})
    assert (caught.value.status_code, caught.value.code) == (answered, code)
    assert "x-fallback-depth" not in caught.value.response.headers
    assert models_called(provider) == ["first"]
    assert books.of_request(label).states == ["voided"]


@both_modes
def test_targets_of_one_model(client: OpenAI, provider: FakeProvider, books: Books, stream):
    """A move between the targets of one model is no fallback."""
    provider.script("pair", Script(status=500), GOOD)
    answer = ask(client, "@script:pair", model="twins", stream=stream)
    assert_served_by(answer, "twins", 0)
    assert assert_booked(books, answer).results == ("upstream_error", "served")
    assert sorted(models_called(provider)) == ["twin-a", "twin-b"]


@both_modes
def test_all_targets_of_one_model_fail(client: OpenAI, provider: FakeProvider, books: Books, stream):
    provider.script("pair", Script(status=500), Script(status=500), GOOD)
    answer = ask(client, "@script:pair", model="twins", stream=stream)
    assert_served_by(answer, "second", 1, asked="twins")
    assert_booked(books, answer)
    assert sorted(models_called(provider)) == ["second", "twin-a", "twin-b"]


@both_modes
def test_a_retry(client: OpenAI, provider: FakeProvider, books: Books, stream):
    provider.script("patient", Script(status=503), GOOD)
    answer = ask(client, model="patient", stream=stream)
    assert_served_by(answer, "patient", 0)
    assert assert_booked(books, answer).results == ("model_overloaded", "served")
    assert models_called(provider) == ["patient", "patient"]


@both_modes
def test_one_retry_and_not_more(client: OpenAI, provider: FakeProvider, books: Books, stream):
    provider.script("patient", Script(status=503), Script(status=500), GOOD)
    provider.script("second", GOOD)
    answer = ask(client, model="patient", stream=stream)
    assert_served_by(answer, "second", 1, asked="patient")
    assert_booked(books, answer)
    assert models_called(provider) == ["patient", "patient", "second"]


@both_modes
def test_no_retry_where_our_account_is_refused(client: OpenAI, provider: FakeProvider, stream):
    provider.script("patient", Script(status=401), GOOD)
    answer = ask(client, model="patient", stream=stream)
    assert_served_by(answer, "second", 1, asked="patient")
    assert models_called(provider) == ["patient", "second"]


@both_modes
def test_a_fallback_that_costs_more_than_there_is_left_is_skipped(
    client: OpenAI, provider: FakeProvider, keys: dict[str, str], books: Books, label: str, stream
):
    provider.script("cheap", Script(status=500))
    modest = client.with_options(api_key=keys["modest"])
    with pytest.raises(openai.InternalServerError) as caught:
        ask(modest, model="cheap", stream=stream, extra_headers={"x-request-id": label})
    assert caught.value.code == "upstream_error"
    assert "x-fallback-depth" not in caught.value.response.headers
    assert models_called(provider) == ["cheap"]
    booked = books.of_request(label)
    assert (booked.charged_microcredits, booked.states) == (0, ["voided"])


@both_modes
def test_the_second_attempt_sees_what_the_first_saw(client: OpenAI, provider: FakeProvider, stream):
    provider.script("first", Script(status=500))
    ask(client, "A text with Grüße.", model="first", temperature=0.5, seed=3, stream=stream)
    first, second = (seen.json for seen in provider.requests())
    assert first == second | {"model": "first"}
