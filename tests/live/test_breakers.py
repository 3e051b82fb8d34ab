"""A provider in trouble: it is left alone, chains go past it, and it is found again when it heals."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI

from chat.health import EXTRA_ALWAYS, EXTRA_SHARE, LEAST_FAILURES, PROBE_EVERY_S, WINDOW_S
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import ask
from tests.live.conftest import TIMEOUT_S
from tests.live.gateway import Installation

RECOVERY_S = 5.0
MODELS_OF_ONE_PROVIDER = ("patient", "twins", "second")


@pytest.fixture
def patient_client(hasty: Installation) -> Iterator[OpenAI]:
    """A client of a fresh process whose breakers open: the other live tests run with patience."""
    with (
        hasty.server() as server,
        OpenAI(base_url=server.base_url, api_key=hasty.keys["acme"], max_retries=0, timeout=TIMEOUT_S) as client,
    ):
        yield client


def tries(client: OpenAI, model: str, count: int, *, stream: bool = False) -> list[openai.APIStatusError]:
    failures = []
    for _ in range(count):
        try:
            ask(client, model=model, stream=stream)
        except openai.APIStatusError as failure:
            failures.append(failure)
    return failures


@pytest.mark.parametrize("case", ["row-135"])
def test_an_open_breaker_answers_for_its_target(patient_client: OpenAI, hasty: Installation, provider: FakeProvider, case):
    provider.script("main", Script(status=500))
    failures = tries(patient_client, "main", LEAST_FAILURES + 5)
    assert [failure.status_code for failure in failures] == [502] * LEAST_FAILURES + [503] * 5, case
    refused = failures[-1]
    assert (refused.code, refused.type) == ("model_overloaded", "server_error")
    assert 1 <= int(refused.response.headers["retry-after"]) <= 60
    assert refused.response.headers["x-credits-used"] == "0"
    assert len(provider.requests()) == LEAST_FAILURES
    provider.script("main", Script())
    healed_s = time.monotonic()
    while tries(patient_client, "main", 1):
        assert time.monotonic() < healed_s + RECOVERY_S
        time.sleep(0.1)
    assert tries(patient_client, "main", 10) == []
    assert hasty.books.open_holds() == 0


def test_a_chain_goes_past_an_open_breaker(patient_client: OpenAI, provider: FakeProvider):
    provider.script("first", Script(status=500))
    for _ in range(LEAST_FAILURES + 5):
        answer = ask(patient_client, model="first", stream=True)
        assert (answer.model, answer.headers["x-fallback-depth"]) == ("second", "1")
    seen = [request.script for request in provider.requests()]
    assert seen.count("second") == LEAST_FAILURES + 5
    assert seen.count("first") == LEAST_FAILURES


def test_of_two_equals_the_one_that_fails_comes_last_until_it_heals(
    patient_client: OpenAI, hasty: Installation, provider: FakeProvider
):
    """Its share of the load goes to the other one; now and then one request finds out how it is."""
    provider.script("twin-a", Script(status=500))
    started_s = time.monotonic()
    for _ in range(40):
        assert ask(patient_client, model="twins").model == "twins"
    most = LEAST_FAILURES + 1 + int((time.monotonic() - started_s) / PROBE_EVERY_S)
    assert calls_of(provider, "twin-b") == 40
    assert LEAST_FAILURES <= calls_of(provider, "twin-a") <= most
    provider.script("twin-a", Script())
    healed_s, served = time.monotonic(), calls_of(provider, "twin-b")
    for asked in range(1, 10_000):
        ask(patient_client, model="twins")
        if calls_of(provider, "twin-b") <= served + asked - 3:
            break
        assert time.monotonic() < healed_s + RECOVERY_S, "it does not serve again"
    assert hasty.books.open_holds() == 0


def calls_of(provider: FakeProvider, model: str) -> int:
    return [request.script for request in provider.requests()].count(model)


class Caller(threading.Thread):
    """Asks for one model after the other, in both modes, until it is told to stop; `asked` counts."""

    def __init__(self, client: OpenAI, is_over: threading.Event) -> None:
        super().__init__()
        self._client = client
        self._is_over = is_over
        self.asked = 0

    def run(self) -> None:
        while not self._is_over.is_set():
            tries(self._client, MODELS_OF_ONE_PROVIDER[self.asked % len(MODELS_OF_ONE_PROVIDER)], 1, stream=self.asked % 2 == 0)
            self.asked += 1


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=[pytest.mark.long, pytest.mark.timeout(300)])])
def test_a_provider_that_is_down_is_not_asked_much_more_and_is_found_again(
    patient_client: OpenAI, hasty: Installation, provider: FakeProvider, seconds: int
):
    """Retries, twin targets and the chain all lead to one provider: a fifth more calls than requests, or a few in ten seconds."""
    called = ("patient", "twin-a", "twin-b", "second")
    for model in called:
        provider.script(model, Script(status=500))
    is_over, started_s = threading.Event(), time.monotonic()
    callers = [Caller(patient_client, is_over) for _ in range(4)]
    for caller in callers:
        caller.start()
    is_over.wait(seconds)
    is_over.set()
    for caller in callers:
        caller.join()
    asked = sum(caller.asked for caller in callers)
    windows = 1 + int((time.monotonic() - started_s) / WINDOW_S)
    assert len(provider.requests()) <= asked + max(asked * EXTRA_SHARE, EXTRA_ALWAYS * windows)
    for model in called:
        provider.script(model, Script())
    healed_s = time.monotonic()
    while failures := [failure for model in MODELS_OF_ONE_PROVIDER for failure in tries(patient_client, model, 2)]:
        assert time.monotonic() < healed_s + RECOVERY_S, failures
        time.sleep(0.1)
    assert hasty.books.open_holds() == 0
