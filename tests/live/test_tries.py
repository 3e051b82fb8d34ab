"""What staff say of a target and a model: when it is tried again, on what its chain takes over, and who is never asked in vain."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import openai
import pytest
from openai import OpenAI

from chat.attempts import RETRY_AFTER_MOST_S
from chat.quote import BYTES_PER_ESTIMATED_TOKEN, CERTAIN_BYTES_PER_TOKEN
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import ask, assert_booked
from tests.live.books import Books
from tests.live.catalog import BRIEF_TOKENS
from tests.live.gateway import Server
from tests.live.wire import WireClient

both_modes = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

GOOD = Script(text="Served.", usage={"prompt_tokens": 7, "completion_tokens": 3})
TOO_LONG = Script(status=400, body=msgspec.json.encode({"error": {"message": "Long.", "code": "context_length_exceeded"}}))
REFUSED = msgspec.json.encode({"type": "error", "error": {"type": "invalid_request_error", "message": "No."}})


def models_called(provider: FakeProvider) -> list[str]:
    return [seen.json["model"] for seen in provider.requests()]


# Tries of one target


@pytest.mark.slow
@both_modes
@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_waits_as_long_as_the_provider_asks(client: OpenAI, provider: FakeProvider, books: Books, status: int, stream):
    provider.script("patient", Script(status=status, headers={"retry-after": "1"}), GOOD)
    answer = ask(client, model="patient", stream=stream)
    assert (answer.model, len(assert_booked(books, answer).results)) == ("patient", 2)
    first, second = provider.requests()
    assert first.answered_s is not None
    assert second.arrived_s - first.answered_s >= 1, "it came too early"


@both_modes
def test_of_all_failures_the_first_one_of_the_model_asked_is_told(
    client: OpenAI, provider: FakeProvider, books: Books, label: str, stream
):
    provider.script("patient", Script(status=429), Script(status=500))
    provider.script("second", Script(status=503))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, model="patient", stream=stream, extra_headers={"x-request-id": label})
    assert (caught.value.code, caught.value.response.headers["x-fallback-depth"]) == ("upstream_rate_limited", "1")
    booked = books.of_request(label)
    assert booked.results == ("upstream_rate_limited", "upstream_error", "model_overloaded")
    assert (booked.error_code, booked.charged_microcredits) == ("upstream_rate_limited", 0)


@both_modes
@pytest.mark.parametrize("wait", [str(RETRY_AFTER_MOST_S + 1), "1000000000", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_who_wants_to_be_left_alone_for_long_is_not_asked_again(client: OpenAI, provider: FakeProvider, wait: str, stream):
    provider.script("patient", Script(status=429, headers={"retry-after": wait}), GOOD)
    provider.script("second", GOOD)
    answer = ask(client, model="patient", stream=stream)
    assert (answer.model, answer.headers["x-fallback-depth"]) == ("second", "1")
    assert models_called(provider) == ["patient", "second"]


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("by_reset", [False, True], ids=["fin", "rst"])
def test_nobody_is_asked_again_for_a_client_that_left(
    server: Server, provider: FakeProvider, keys: dict[str, str], books: Books, label: str, stream, by_reset
):
    """It leaves between two tries, when nothing flows either way."""
    provider.script("patient", Script(status=429, headers={"retry-after": "1"}), GOOD)
    body: dict[str, Any] = {"model": "patient", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
    with WireClient(server.port, keys["acme"], body, x_request_id=label) as client:
        provider.wait_for(lambda requests: [seen.answered_s is not None for seen in requests] == [True])
        client.leave(by_reset=by_reset)
    booked = books.of_request(label, is_over=lambda booked: "open" not in booked.states)
    assert (booked.end_state, booked.charged_microcredits, booked.states) == ("client_gone", 0, ["voided"])
    assert booked.results == ("upstream_rate_limited",)
    time.sleep(1.5)
    assert models_called(provider) == ["patient"]


@both_modes
def test_a_connection_that_was_closed_meanwhile_is_no_failure(client: OpenAI, provider: FakeProvider, books: Books, stream):
    """The provider ends its idle connections: no request is lost on one, and none is tried twice."""
    provider.script("alone", msgspec.structs.replace(GOOD, closes=True))
    for _ in range(10):
        answer = ask(client, model="alone", stream=stream)
        assert assert_booked(books, answer).results == ("served",)
        provider.wait_for(lambda requests: all(seen.closed_s for seen in requests))
    assert len(provider.requests()) == 10


# Chosen statuses


@both_modes
@pytest.mark.parametrize(
    ("status", "code"), [(503, "model_overloaded"), (409, "upstream_error"), (425, "upstream_error")], ids=["503", "409", "425"]
)
def test_a_chosen_status_falls_back(client: OpenAI, provider: FakeProvider, books: Books, status: int, code: str, stream):
    provider.script("choosy", Script(status=status))
    provider.script("second", GOOD)
    answer = ask(client, model="choosy", stream=stream)
    assert answer.model == "second"
    assert assert_booked(books, answer).results == (code, code, "served")


@both_modes
def test_a_chosen_status_falls_back_whatever_stands_in_its_body(client: OpenAI, provider: FakeProvider, books: Books, stream):
    """Who chose 500 is not held up by a provider that hides the fault of a request behind it."""
    provider.script("choosy-claude", Script(status=500, body=REFUSED))
    provider.script("second", GOOD)
    answer = ask(client, model="choosy-claude", stream=stream)
    assert answer.model == "second"
    assert assert_booked(books, answer).results == ("upstream_rejected_request", "served")


@both_modes
@pytest.mark.parametrize(("status", "answered"), [(500, 502), (429, 429), (401, 502)])
def test_a_status_that_was_not_chosen_is_the_answer(
    client: OpenAI, provider: FakeProvider, books: Books, label: str, status: int, answered: int, stream
):
    provider.script("choosy", Script(status=status))
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, model="choosy", stream=stream, extra_headers={"x-request-id": label})
    assert caught.value.status_code == answered
    assert "x-fallback-depth" not in caught.value.response.headers
    assert models_called(provider) == ["choosy"]
    booked = books.of_request(label)
    assert (booked.end_state, booked.charged_microcredits, booked.states) == ("failed", 0, ["voided"])


@both_modes
@pytest.mark.parametrize("script", [Script(cut_head=True), Script(body=b"<html>")], ids=["reset", "no-answer"])
def test_what_has_no_status_of_failure_falls_back_whatever_was_chosen(
    client: OpenAI, provider: FakeProvider, script: Script, stream
):
    provider.script("choosy", script)
    provider.script("second", GOOD)
    assert ask(client, model="choosy", stream=stream).model == "second"


# Context too long

LONG = "x" * BRIEF_TOKENS * CERTAIN_BYTES_PER_TOKEN + "x"
PROBABLY_LONG = "x" * BRIEF_TOKENS * BYTES_PER_ESTIMATED_TOKEN


@both_modes
@pytest.mark.parametrize(
    ("prompt", "refusal", "results"),
    [
        pytest.param("Hello", TOO_LONG, ("context_length_exceeded", "served"), id="told-by-its-code"),
        pytest.param(PROBABLY_LONG, Script(status=400), ("upstream_rejected_request", "served"), id="told-by-the-estimate"),
        pytest.param(LONG, None, ("served",), id="certain"),
    ],
)
def test_a_larger_model_takes_what_is_too_long(
    client: OpenAI, provider: FakeProvider, books: Books, prompt: str, refusal: Script | None, results: Any, stream
):
    """`terse`, next in the chain, has the same window: it is not asked."""
    provider.script("brief", refusal or GOOD)
    provider.script("second", GOOD)
    answer = ask(client, prompt, model="brief", stream=stream, max_tokens=5)
    assert answer.model == "second"
    assert (answer.headers["x-fallback-from"], answer.headers["x-fallback-depth"]) == ("brief", "2")
    assert assert_booked(books, answer).results == results
    assert models_called(provider) == (["brief", "second"] if refusal else ["second"])


@both_modes
@pytest.mark.parametrize(("prompt", "refusal"), [("Hello", TOO_LONG), (LONG, None)], ids=["told", "certain"])
def test_where_staff_do_not_say_so_too_long_is_the_answer(
    client: OpenAI, provider: FakeProvider, prompt: str, refusal: Script | None, stream
):
    provider.script("terse", refusal or GOOD)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, prompt, model="terse", stream=stream, max_tokens=5)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    assert "x-fallback-depth" not in caught.value.response.headers
    assert models_called(provider) == (["terse"] if refusal else [])


@both_modes
def test_an_invalid_request_of_ordinary_length_does_not_fall_back(client: OpenAI, provider: FakeProvider, stream):
    provider.script("brief", Script(status=400))
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, model="brief", stream=stream, max_tokens=5)
    assert caught.value.code == "upstream_rejected_request"
    assert models_called(provider) == ["brief"]


@both_modes
def test_if_the_larger_model_fails_the_answer_is_that_it_was_too_long(
    client: OpenAI, provider: FakeProvider, books: Books, label: str, stream
):
    provider.script("second", Script(status=500))
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, LONG, model="brief", stream=stream, max_tokens=5, extra_headers={"x-request-id": label})
    assert (caught.value.code, caught.value.response.headers["x-fallback-depth"]) == ("context_length_exceeded", "1")
    booked = books.of_request(label)
    assert (booked.status, booked.end_state, booked.charged_microcredits) == (400, "refused", 0)
    assert "open" not in booked.states
