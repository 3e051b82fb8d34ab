"""Rows 22, 140, 142 and 143: a slow client, and an environment in trouble. Their gateway is one of its own.

Its bodies time out soon, its Redis does not exist, and its database is locked and sabotaged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from tests.fakes.launch import FakeProvider
from tests.live.gateway import Installation, Server
from tests.live.install import REQUESTS_PER_MINUTE
from tests.live.rows.raw import Line, RawConnection, chat, chunk, chunked, exchange, request
from tests.live.rows.refusals import assert_free, assert_refused
from tests.live.rows.sabotage import locked_ledger, refused_inserts
from tests.live.rows.settings import BODY_CHUNK_TIMEOUT_S, BODY_TOTAL_TIMEOUT_S
from tests.redis_server import RedisServer

GRACE_S = 1.5


@pytest.fixture(scope="module")
def troubled(provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("troubled"), provider_process, settings="tests.live.rows.settings")
    yield made
    made.books.close()


@pytest.fixture(scope="module")
def gateway(
    troubled: Installation, provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    nobody = tmp_path_factory.mktemp("nobody") / "redis.sock"
    with troubled.server(REDIS_URL=f"unix://{nobody}") as running:
        yield running
        provider_process.reset()
        assert exchange(running.port, request(troubled.keys["acme"])).status_code == 200, "after all troubles"


@pytest.fixture
def keys(troubled: Installation) -> dict[str, str]:
    return troubled.keys


@pytest.fixture(autouse=True)
def _leaves_no_hold() -> None:
    """Sabotage does leave some."""


def labelled(key: str, label: str, *lines: Line, body: bytes | None = None) -> bytes:
    return request(key, ("x-request-id", label), *lines, body=body)


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/models"], ids=["row-22-silence", "row-22-elsewhere"])
def test_a_body_that_does_not_come(gateway: Server, keys: dict[str, str], target: str):
    data = request(keys["acme"], ("content-length", "100"), target=target, body=b"{")
    with RawConnection(gateway.port) as connection:
        started_s = time.monotonic()
        answer = connection.ask(data)
        assert BODY_CHUNK_TIMEOUT_S <= time.monotonic() - started_s < BODY_CHUNK_TIMEOUT_S + GRACE_S
        assert_refused(answer, 408, "request_timeout")
        assert answer.headers["connection"] == "close"


@pytest.mark.slow
@pytest.mark.parametrize("piece", [pytest.param(b" ", id="row-22-drip")])
def test_a_body_that_comes_in_drops(gateway: Server, keys: dict[str, str], piece: bytes):
    """No silence is too long, but all together are."""
    started_s = time.monotonic()
    with RawConnection(gateway.port) as connection:
        connection.send(chunked(keys["acme"], b""))
        while time.monotonic() - started_s < BODY_TOTAL_TIMEOUT_S:
            time.sleep(BODY_CHUNK_TIMEOUT_S / 3)
            connection.send(chunk(piece))
        assert_refused(connection.read(), 408, "request_timeout")
        assert time.monotonic() - started_s < BODY_TOTAL_TIMEOUT_S + GRACE_S
        assert connection.is_closed()


@pytest.mark.slow
@pytest.mark.parametrize("count", [pytest.param(2, id="row-140-locked")])
def test_the_ledger_is_locked(
    troubled: Installation, gateway: Server, provider: FakeProvider, keys: dict[str, str], label: str, count: int
):
    """No request is started unheld, in either mode; when the lock is gone, all is as before."""
    data = [request(keys["acme"], body=chat(stream=stream)) for stream in (False, True)]
    charged_before = troubled.books.charged_microcredits()
    with locked_ledger(troubled), ThreadPoolExecutor() as threads:
        answers = list(threads.map(exchange, [gateway.port] * count, data))
    for answer in answers:
        assert_refused(answer, 503, "ledger_unavailable")
        assert answer.headers["retry-after"] == "2"
    assert provider.requests() == []
    assert troubled.books.charged_microcredits() == charged_before
    answer = exchange(gateway.port, labelled(keys["acme"], label))
    assert answer.status_code == 200
    assert troubled.books.of_request(label).entry_microcredits > 0


@pytest.mark.parametrize("name", [pytest.param("limited", id="row-142-never-there")])
def test_redis_was_never_there(gateway: Server, keys: dict[str, str], name: str):
    """Limits are counted by the process, which says so; keys without limits notice nothing."""
    answer = exchange(gateway.port, request(keys[name]))
    assert answer.status_code == 200
    assert answer.headers["x-ratelimit-degraded"] == "true"
    assert int(answer.headers["x-ratelimit-remaining-requests"]) < REQUESTS_PER_MINUTE
    assert "x-ratelimit-degraded" not in exchange(gateway.port, request(keys["acme"])).headers


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("limited", id="row-142-goes-away")])
def test_redis_goes_away(troubled: Installation, keys: dict[str, str], name: str):
    """While the gateway runs: not one request fails, and the limit still holds."""
    redis = RedisServer()
    try:
        redis.start()
        with troubled.server(REDIS_URL=redis.url) as gateway:
            counted = exchange(gateway.port, request(keys[name]))
            assert counted.status_code == 200
            assert "x-ratelimit-degraded" not in counted.headers
            redis.stop()
            answers = [exchange(gateway.port, request(keys[name])) for _ in range(3 * REQUESTS_PER_MINUTE)]
    finally:
        redis.remove()
    assert {answer.headers["x-ratelimit-degraded"] for answer in answers} == {"true"}
    assert {answer.status_code for answer in answers} == {200, 429}
    assert_refused(answers[-1], 429, "rate_limit_exceeded")


@pytest.mark.parametrize("stream", [False, True], ids=["row-143-whole", "row-143-stream"])
def test_a_fault_of_ours(troubled: Installation, gateway: Server, provider: FakeProvider, label: str, stream):
    """Before anything is held: to try again does no harm."""
    with refused_inserts(troubled, "billing_hold"):
        answer = exchange(gateway.port, labelled(troubled.keys["acme"], label, body=chat(stream=stream)))
    message = assert_refused(answer, 500, "internal_error", label=label)
    assert "x-request-id" in message
    assert provider.requests() == []
    assert assert_free(troubled.books, label, 500, "internal_error").holds == ()


@pytest.mark.parametrize("table", [pytest.param("billing_entry", id="row-143-credit-is-held")])
def test_a_fault_of_ours_while_credit_is_held(troubled: Installation, gateway: Server, label: str, table: str):
    """The provider has worked, so the client must not have it work again. The hold ends by its lease."""
    with refused_inserts(troubled, table):
        charged_before = troubled.books.charged_microcredits()
        answer = exchange(gateway.port, labelled(troubled.keys["acme"], label))
    assert_refused(answer, 500, "internal_error", label=label, should_retry="false")
    assert troubled.books.charged_microcredits() == charged_before
    assert label in gateway.log_text(), "the request can be found by what the client was told to quote"


@pytest.mark.parametrize("table", [pytest.param("billing_entry", id="row-143-end-of-a-stream")])
def test_a_fault_of_ours_at_the_end_of_a_stream(troubled: Installation, gateway: Server, label: str, table: str):
    """When the status is out: the same envelope as the last event, and no `[DONE]`."""
    with refused_inserts(troubled, table):
        charged_before = troubled.books.charged_microcredits()
        answer = exchange(gateway.port, labelled(troubled.keys["acme"], label, body=chat(stream=True)))
    assert answer.status_code == 200
    events = answer.text.removesuffix("\n\n").split("\n\n")
    error = msgspec.json.decode(events[-1].removeprefix("data: "))["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "[DONE]" not in answer.text
    assert "credits_used" not in answer.text
    assert troubled.books.charged_microcredits() == charged_before
