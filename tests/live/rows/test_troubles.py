"""Rows 22, 140, 142 and 143: a slow client, and an environment in trouble. Their gateway is one of its own.

Its bodies time out soon, its Redis does not exist, and its database is locked and sabotaged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import pytest

from tests.fakes.launch import FakeProvider
from tests.live.books import Books
from tests.live.gateway import Installation, Server
from tests.live.rows.raw import Line, RawConnection, chat, chunk, chunked, exchange, request
from tests.live.rows.refusals import assert_free, assert_refused
from tests.live.rows.sabotage import locked_ledger, refused_inserts
from tests.live.rows.settings import BODY_CHUNK_TIMEOUT_S, BODY_TOTAL_TIMEOUT_S
from tests.redis_server import RedisServer

GRACE_S = 1.5

both_modes = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(scope="module")
def troubled(provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("troubled"), provider_process, settings="tests.live.rows.settings")
    yield made
    made.books.close()


@pytest.fixture(scope="module")
def gateway(troubled: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    nobody = tmp_path_factory.mktemp("nobody") / "redis.sock"
    with troubled.server(REDIS_URL=f"unix://{nobody}") as running:
        yield running


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


@pytest.mark.parametrize("count", [pytest.param(2, id="row-140-locked")])
def test_the_ledger_is_locked(
    troubled: Installation, gateway: Server, provider: FakeProvider, keys: dict[str, str], label: str, count: int
):
    """No request is started unheld, in either mode; when the lock is gone, all is as before."""
    data = [request(keys["acme"], body=chat(stream=stream)) for stream in (False, True)]
    with locked_ledger(troubled), ThreadPoolExecutor() as threads:
        answers = list(threads.map(exchange, [gateway.port] * count, data))
    for answer in answers:
        assert_refused(answer, 503, "ledger_unavailable")
        assert answer.headers["retry-after"] == "2"
    assert provider.requests() == []
    answer = exchange(gateway.port, labelled(keys["acme"], label))
    assert answer.status_code == 200
    assert troubled.books.of_request(label).entry_microcredits > 0


def test_redis_was_never_there(gateway: Server, keys: dict[str, str]):
    """Row 142: limits are counted by the process, which says so; keys without limits notice nothing."""
    answer = exchange(gateway.port, request(keys["limited"]))
    assert answer.status_code == 200
    assert answer.headers["x-ratelimit-degraded"] == "true"
    assert answer.headers["x-ratelimit-remaining-requests"] == "2"
    assert "x-ratelimit-degraded" not in exchange(gateway.port, request(keys["acme"])).headers


def test_redis_goes_away(troubled: Installation, provider: FakeProvider, keys: dict[str, str]):
    """Row 142, while the gateway runs: not one request fails, and the limit still holds."""
    redis = RedisServer()
    try:
        redis.start()
        with troubled.server(REDIS_URL=redis.url) as gateway:
            counted = exchange(gateway.port, request(keys["limited"]))
            assert counted.status_code == 200
            assert "x-ratelimit-degraded" not in counted.headers
            redis.stop()
            answers = [exchange(gateway.port, request(keys["limited"])) for _ in range(6)]
    finally:
        redis.remove()
    assert {answer.headers["x-ratelimit-degraded"] for answer in answers} == {"true"}
    assert {answer.status_code for answer in answers} == {200, 429}
    assert_refused(answers[-1], 429, "rate_limit_exceeded")


@both_modes
def test_a_fault_of_ours(troubled: Installation, gateway: Server, provider: FakeProvider, label: str, stream):
    """Row 143, before anything is held: to try again is no harm."""
    with refused_inserts(troubled, "billing_hold"):
        answer = exchange(gateway.port, labelled(troubled.keys["acme"], label, body=chat(stream=stream)))
    message = assert_refused(answer, 500, "internal_error", label=label)
    assert "x-request-id" in message
    assert provider.requests() == []
    assert assert_free(troubled.books, label, 500, "internal_error").holds == ()


@pytest.mark.parametrize("stream", [False], ids=["whole"])
def test_a_fault_of_ours_while_credit_is_held(troubled: Installation, gateway: Server, label: str, stream):
    """Row 143: the provider has worked, so the client must not have it work again. The hold ends by its lease."""
    with refused_inserts(troubled, "billing_entry"):
        answer = exchange(gateway.port, labelled(troubled.keys["acme"], label, body=chat(stream=stream)))
    assert_refused(answer, 500, "internal_error", label=label, should_retry="false")
    assert_not_charged(troubled.books, label)
    assert label in gateway.log_text()


def test_a_fault_of_ours_at_the_end_of_a_stream(troubled: Installation, gateway: Server, label: str):
    """Row 143, when the status is out: the same envelope as the last event, and no `[DONE]`."""
    with refused_inserts(troubled, "billing_entry"):
        answer = exchange(gateway.port, labelled(troubled.keys["acme"], label, body=chat(stream=True)))
    assert answer.status_code == 200
    events = answer.text.removesuffix("\n\n").split("\n\n")
    error = msgspec.json.decode(events[-1].removeprefix("data: "))["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "[DONE]" not in answer.text
    assert "credits_used" not in answer.text
    assert_not_charged(troubled.books, label)


def assert_not_charged(books: Books, label: str) -> None:
    assert books.count(label) == 0
    assert books.open_holds() > 0


@pytest.mark.parametrize("name", ["a-request-after-all-troubles"])
def test_the_gateway_goes_on(gateway: Server, keys: dict[str, str], name: str):
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", trust_env=False) as balancer:
        assert balancer.get("/readyz").status_code == 200, name
    assert exchange(gateway.port, request(keys["acme"])).status_code == 200
