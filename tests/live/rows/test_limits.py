"""Rows 27 to 29, 31 to 33 and 35: what another request, or the account, does not leave room for."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.gateway import Server
from tests.live.rows.install import DOORS
from tests.live.rows.raw import Post, RawConnection, chat, request
from tests.live.rows.refusals import assert_free, assert_refused

HELD_UP_S = 0.6


@pytest.fixture
def key() -> str:
    return str(uuid.uuid4())


@contextmanager
def running(server: Server, provider: FakeProvider, data: bytes) -> Iterator[None]:
    """Another client's request, which reaches the provider before the block begins and is answered well after it."""
    provider.script("main", Script(delay_first_s=HELD_UP_S))
    with RawConnection(server.port) as connection:
        connection.send(data)
        provider.wait_for(lambda requests: len(requests) == 1)
        yield
        assert connection.read().status_code == 200


@pytest.mark.parametrize("stream", [False, True], ids=["row-27-whole", "row-27-stream"])
def test_the_first_still_runs(
    server: Server, provider: FakeProvider, keys: dict[str, str], post: Post, books: Books, key: str, label: str, stream
):
    body = chat(stream=stream)
    with running(server, provider, request(keys["acme"], ("idempotency-key", key), body=body)):
        answer = post(body, idempotency_key=key)
        assert_refused(answer, 409, "idempotency_in_progress", label=label)
        assert answer.headers["retry-after"] == "1"
    assert len(provider.requests()) == 1
    assert assert_free(books, label, 409, "idempotency_in_progress").holds == ()


@pytest.mark.parametrize("other", [chat(n=2), chat() + b" "], ids=["row-28-other-field", "row-28-other-white-space"])
def test_another_body(post: Post, provider: FakeProvider, books: Books, key: str, label: str, other: bytes):
    assert post(idempotency_key=key, x_request_id=f"{label}-first").status_code == 200
    assert_refused(post(other, idempotency_key=key), 422, "idempotency_mismatch", label=label)
    assert len(provider.requests()) == 1
    assert assert_free(books, label, 422, "idempotency_mismatch").holds == ()


@pytest.mark.parametrize("body", [pytest.param(chat(max_tokens=16), id="row-29-other-workspace")])
def test_another_workspace(post: Post, provider: FakeProvider, keys: dict[str, str], key: str, body: bytes):
    ours, theirs = (post(body, idempotency_key=key, authorization=f"Bearer {keys[name]}") for name in ("acme", "modest"))
    assert ours.status_code == theirs.status_code == 200
    assert ours.json()["id"] != theirs.json()["id"]
    assert "idempotent-replayed" not in theirs.headers
    assert len(provider.requests()) == 2


REQUESTS = [
    pytest.param("hourglass", "min", 120, id="row-31-a-minute"),
    pytest.param("sundial", "day", 24 * 60 * 60, id="row-31-a-day"),
]


@pytest.mark.parametrize(("name", "period", "most_wait_s"), REQUESTS)
def test_too_many_requests(post: Post, provider: FakeProvider, keys: dict[str, str], name: str, period: str, most_wait_s: int):
    """One a minute, or a day; a second one may pass when the clock's period turns between the two."""
    answers = [post(authorization=f"Bearer {keys[name]}") for _ in range(3)]
    for answer in answers:
        assert answer.headers["x-ratelimit-limit-requests"] == "1"
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert answer.headers["x-ratelimit-reset-requests"]
    message = assert_refused(answers[-1], 429, "rate_limit_exceeded", most_wait_s=most_wait_s)
    assert message == f"Rate limit: 1 req/{period} on this API key"
    assert len(provider.requests()) == [answer.status_code for answer in answers].count(200) <= 2


@pytest.mark.parametrize("door", [pytest.param(door, id=f"row-31-{door}") for door in DOORS])
def test_too_many_requests_of_another_kind(server: Server, keys: dict[str, str], label: str, door: str):
    """They count as chat does, one by one, whether there is what they ask for or not."""
    asked: dict[str, Any] = {"url": f"http://127.0.0.1:{server.port}{DOORS[door]}", "method": "GET"}
    if door == "uploads":
        asked |= {"method": "POST", "files": {"file": ("a.txt", b"a"), "purpose": (None, "user_data")}}
    headers = {"authorization": f"Bearer {keys[f'hourglass of {door}']}", "x-request-id": label}
    with httpx.Client(headers=headers, timeout=20, trust_env=False) as client:
        answers = [client.request(**asked) for _ in range(3)]
    assert answers[0].status_code == (404 if door == "receipts" else 200)
    for answer in answers:
        assert answer.headers.get_list("x-ratelimit-limit-requests") == ["1"]
        assert answer.headers.get_list("x-ratelimit-remaining-requests") == ["0"]
    assert assert_refused(answers[-1], 429, "rate_limit_exceeded", label=label) == "Rate limit: 1 req/min on this API key"


@pytest.mark.parametrize("name", [pytest.param("sundial of reads", id="row-31-reads-of-a-day")])
def test_too_many_reads_of_a_day(server: Server, keys: dict[str, str], name: str):
    """What has no limit of a minute is counted all the same."""
    with httpx.Client(headers={"authorization": f"Bearer {keys[name]}"}, timeout=20, trust_env=False) as client:
        answers = [client.get(f"{server.base_url}/key") for _ in range(3)]
    assert answers[0].status_code == 200
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "0"
    message = assert_refused(answers[-1], 429, "rate_limit_exceeded", most_wait_s=24 * 60 * 60)
    assert message == "Rate limit: 1 req/day on this API key"


@pytest.mark.parametrize("stream", [False, True], ids=["row-32-whole", "row-32-stream"])
def test_too_many_at_once(server: Server, provider: FakeProvider, keys: dict[str, str], post: Post, label: str, stream):
    authorization = f"Bearer {keys['single']}"
    with running(server, provider, request(keys["single"], body=chat(stream=stream))):
        answer = post(chat(stream=stream), authorization=authorization)
        assert_refused(answer, 429, "concurrency_limit_exceeded", label=label)
        assert len(provider.requests()) == 1
    provider.reset()
    assert post(chat(stream=stream), authorization=authorization).status_code == 200, "the place was given back"


def test_a_place_is_given_back_after_each_refusal(post: Post, keys: dict[str, str]):
    """Row 32 the other way: refusals of all kinds, one after the other, never fill the only place."""
    authorization = f"Bearer {keys['single']}"
    for body in (b"", b"{", chat(model="none"), chat(n=0), chat(max_tokens=10**6)):
        assert post(body, authorization=authorization).status_code in {400, 404}
    assert post(authorization=authorization).status_code == 200


TOKENS = [
    pytest.param("thirsty", "min", 120, id="row-33-a-minute"),
    pytest.param("rationed", "day", 24 * 60 * 60, id="row-33-a-day"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("name", "period", "most_wait_s"), TOKENS)
def test_too_many_tokens(
    server: Server,
    post: Post,
    provider: FakeProvider,
    keys: dict[str, str],
    books: Books,
    label: str,
    name: str,
    period: str,
    most_wait_s: int,
    stream,
):
    """One token: the first request uses more, so the next waits; one more may pass when the clock's period turns between."""
    answers = [post(chat(stream=stream), authorization=f"Bearer {keys[name]}") for _ in range(3)]
    message = assert_refused(answers[-1], 429, "tokens_limit_exceeded", label=label, most_wait_s=most_wait_s)
    assert message == f"Token limit: 1 tokens/{period} on this API key"
    assert answers[-1].headers["x-ratelimit-limit-tokens"] == "1"
    assert answers[-1].headers["x-ratelimit-remaining-tokens"] == "0"
    assert answers[-1].headers["x-ratelimit-reset-tokens"]
    with httpx.Client(headers={"authorization": f"Bearer {keys[name]}"}, timeout=20, trust_env=False) as client:
        assert client.get(f"{server.base_url}/usage").status_code == 200, "what was used can still be read"
    served = [answer.status_code for answer in answers].count(200)
    assert len(provider.requests()) == books.count(label) == served <= 2


CREDITS = [
    pytest.param("broke", {}, id="row-35-nothing"),
    pytest.param("broke", {"max_tokens": 1}, id="row-35-nothing-for-one-token"),
    pytest.param("modest", {"n": 100}, id="row-35-less-than-needed"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("name", "fields"), CREDITS)
def test_not_enough_credit(
    http: httpx.Client,
    post: Post,
    provider: FakeProvider,
    keys: dict[str, str],
    books: Books,
    label: str,
    name: str,
    fields: dict[str, Any],
    stream,
):
    """The message has what is needed, as a dry run would say it, and what there is."""
    authorization = f"Bearer {keys[name]}"
    body = chat(stream=stream, **fields)
    answer = post(body, authorization=authorization)
    message = assert_refused(answer, 402, "insufficient_credits", label=label)
    quote = http.post(
        "/chat/completions?dry_run=true",
        content=body,
        headers={"content-type": "application/json", "authorization": authorization},
    ).json()
    assert quote["is_admitted"] is False
    assert f"needs up to {_text(quote['credits_high'])} credits" in message
    assert f"{_text(quote['credits_available'])} are available" in message
    assert provider.requests() == []
    assert assert_free(books, label, 402, "insufficient_credits").holds == ()


def _text(credits: float) -> str:
    """A number of credits as messages have it."""
    return f"{credits:.6f}".rstrip("0").rstrip(".")


@pytest.mark.parametrize("count", [pytest.param(12, id="row-35-at-once")])
def test_credit_is_not_spent_twice(server: Server, provider: FakeProvider, keys: dict[str, str], count: int):
    """`modest` has less than one credit; of requests that need three tenths each, no more run at once than it can pay."""
    provider.script("main", Script(delay_first_s=HELD_UP_S))
    answers: list[httpx.Response] = []

    def ask() -> None:
        with RawConnection(server.port) as connection:
            answers.append(connection.ask(request(keys["modest"], body=chat(max_tokens=250))))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    served = [answer for answer in answers if answer.status_code == 200]
    assert 1 <= len(served) <= 3
    for answer in answers:
        if answer not in served:
            assert "are held by requests in flight" in assert_refused(answer, 402, "insufficient_credits")
