"""Idempotency-Key on chat, through the official client: one call upstream and one charge, however often it is asked."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import ask, assert_booked
from tests.live.books import Books
from tests.live.gateway import Installation, Server
from tests.live.rows.sabotage import forget_replies, locked_ledger
from tests.live.wire import WireClient

JSON = {"content-type": "application/json"}

pytestmark = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture
def key() -> str:
    return str(uuid.uuid4())


def body(text: str = "Hello", *, stream: bool) -> dict[str, Any]:
    return {"model": "main", "messages": [{"role": "user", "content": text}], "stream": stream}


def test_a_repeat_is_answered_from_what_was_kept(
    http: httpx.Client, provider: FakeProvider, books: Books, key: str, label: str, stream
):
    asked = body(stream=stream)
    first = http.post("/chat/completions", json=asked, headers={"idempotency-key": key, "x-request-id": label})
    again = http.post("/chat/completions", json=asked, headers={"idempotency-key": key, "x-request-id": f"{label}-2"})
    assert first.status_code == again.status_code == 200
    assert again.content == first.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] == f"{label}-2"
    assert again.headers.get_list("content-type") == first.headers.get_list("content-type")
    for name in ("x-model-used", "x-credits-used"):
        assert again.headers.get(name) == first.headers.get(name)
    assert len(provider.requests()) == 1
    replayed = books.of_request(f"{label}-2")
    assert (replayed.status, replayed.end_state, replayed.charged_microcredits, replayed.holds) == (200, "replayed", 0, ())
    assert books.count(label) == 1


def test_through_the_client(client: OpenAI, provider: FakeProvider, books: Books, key: str, stream):
    first, again = (ask(client, stream=stream, extra_headers={"idempotency-key": key}) for _ in range(2))
    assert (again.id, again.text, again.charged_microcredits) == (first.id, first.text, first.charged_microcredits)
    assert again.headers["idempotent-replayed"] == "true"
    assert_booked(books, first)
    assert len(provider.requests()) == 1


def test_another_body_is_refused(client: OpenAI, provider: FakeProvider, key: str, stream):
    ask(client, "One", stream=stream, extra_headers={"idempotency-key": key})
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ask(client, "Two", stream=stream, extra_headers={"idempotency-key": key})
    assert (caught.value.code, caught.value.type) == ("idempotency_mismatch", "invalid_request_error")
    assert len(provider.requests()) == 1


async def test_while_the_first_runs(async_client: AsyncOpenAI, provider: FakeProvider, key: str, stream):
    """Of many at once one runs; the others are told to come back in a second."""
    provider.script("main", Script(delay_first_s=0.8))

    async def one() -> None:
        headers = {"idempotency-key": key}
        reply: Any = await async_client.chat.completions.create(**body(stream=stream), extra_headers=headers)
        if stream:
            async for _ in reply:
                pass

    results = await asyncio.gather(*[one() for _ in range(8)], return_exceptions=True)
    conflicts = [result for result in results if isinstance(result, openai.ConflictError)]
    assert (len(conflicts), results.count(None)) == (7, 1)
    assert {(error.code, error.response.headers["retry-after"]) for error in conflicts} == {("idempotency_in_progress", "1")}
    assert len(provider.requests()) == 1


def test_a_failure_is_not_kept(client: OpenAI, provider: FakeProvider, books: Books, key: str, stream):
    provider.script("alone", Script(status=500), Script(text="Better now."))
    asked: dict[str, Any] = {"model": "alone", "stream": stream, "extra_headers": {"idempotency-key": key}}
    with pytest.raises(openai.InternalServerError):
        ask(client, **asked)
    answer = ask(client, **asked)
    assert answer.text == "Better now."
    assert "idempotent-replayed" not in answer.headers
    assert_booked(books, answer)


def test_another_workspace_is_not_concerned(client: OpenAI, provider: FakeProvider, keys: dict[str, str], key: str, stream):
    headers = {"idempotency-key": key}
    ours = ask(client, max_tokens=16, stream=stream, extra_headers=headers)
    theirs = ask(client.with_options(api_key=keys["modest"]), max_tokens=16, stream=stream, extra_headers=headers)
    assert ours.id != theirs.id
    assert len(provider.requests()) == 2


def test_who_left_may_come_back(
    client: OpenAI,
    server: Server,
    provider: FakeProvider,
    keys: dict[str, str],
    books: Books,
    key: str,
    label: str,
    stream,
):
    """A caller that gave up waiting asks again under the same key, and is answered: the first try gave it back."""
    provider.script("main", Script(text="one two three", delay_between_s=0.2, delay_first_s=0 if stream else 60), Script())
    with WireClient(server.port, keys["acme"], body(stream=stream), x_request_id=label, idempotency_key=key) as impatient:
        if stream:
            impatient.read_head()
            impatient.read_contents(1)
        else:
            provider.wait_for(lambda requests: len(requests) == 1)
        impatient.leave(by_reset=True)
    assert books.of_request(label).end_state == "client_gone"
    answer = ask(client.with_options(max_retries=2), stream=stream, extra_headers={"idempotency-key": key})
    assert "idempotent-replayed" not in answer.headers
    assert_booked(books, answer)


def test_a_stream_that_broke_is_not_kept(client: OpenAI, provider: FakeProvider, key: str, stream):
    provider.script("alone", Script(text="one two three", cut_after=2 if stream else 0), Script(text="all of it"))
    asked: dict[str, Any] = {"model": "alone", "stream": stream, "extra_headers": {"idempotency-key": key}}
    with pytest.raises(openai.APIError):
        ask(client, **asked)
    assert ask(client, **asked).text == "all of it"


@pytest.mark.slow
def test_who_leaves_while_the_answer_is_booked_finds_it_when_he_comes_back(
    installation: Installation,
    http: httpx.Client,
    server: Server,
    provider: FakeProvider,
    keys: dict[str, str],
    books: Books,
    key: str,
    label: str,
    stream,
):
    """The provider is done and the ledger is slow: what is paid is kept, whoever has gone meanwhile."""
    provider.script("main", Script(text="one two", delay_first_s=0.5))
    asked = body(stream=stream)
    with WireClient(server.port, keys["acme"], asked, x_request_id=label, idempotency_key=key) as impatient:
        provider.wait_for(lambda requests: len(requests) == 1)
        with locked_ledger(installation):
            provider.wait_for(lambda requests: all(seen.answered_s for seen in requests))
            if stream:
                impatient.read_head()
                impatient.read_contents(2)
            time.sleep(0.3)
            impatient.leave(by_reset=True)
            time.sleep(0.3)
    again = until_it_is_over(http, body(stream=stream), {"idempotency-key": key, "x-request-id": f"{label}-again"})
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert "two" in again.text
    assert len(provider.requests()) == 1
    booked = books.of_request(label)
    assert (booked.end_state, booked.usage_source, booked.states) == ("done", "reported", ["settled"])
    assert booked.generation in again.text
    assert booked.entry_microcredits > 0


def until_it_is_over(http: httpx.Client, asked: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
    """The answer to the very same bytes, asked for again while the first request runs."""
    for _ in range(50):
        answer = http.post("/chat/completions", content=json.dumps(asked), headers=headers | JSON)
        if answer.status_code != 409:
            return answer
        time.sleep(0.1)
    raise AssertionError("the first request runs for ever")


def test_what_was_paid_and_not_kept_is_told_and_not_paid_again(
    installation: Installation, client: OpenAI, provider: FakeProvider, books: Books, key: str, label: str, stream
):
    first = ask(client, stream=stream, extra_headers={"idempotency-key": key})
    forget_replies(installation)
    patient = client.with_options(max_retries=2)
    for name in (f"{label}-1", f"{label}-2"):
        with pytest.raises(openai.ConflictError) as caught:
            ask(patient, stream=stream, extra_headers={"idempotency-key": key, "x-request-id": name})
        assert books.of_request(name).error_code == "idempotency_result_lost", "once: the client did not try again by itself"
        assert caught.value.code == "idempotency_result_lost"
        assert first.id in caught.value.message
        assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(provider.requests()) == 1
    assert_booked(books, first)
