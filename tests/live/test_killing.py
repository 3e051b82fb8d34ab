"""`kill -9` of the server while it streams, again and again: no credit is created or lost, and no hold stays open.

The books are proven after each kill, once the next server has given back what the killed one held.

What a client was told before the kill stands in the books; what it was not told is either booked or free.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Callable

import pytest

from billing.pricing import microcredits
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.gateway import Installation, Server
from tests.live.hasty import HOLD_LEASE_S, SWEEP_EVERY_S
from tests.live.wire import WireClient

CLIENTS = 8
GRACE_S = 60.0  # this machine may be busy
LEAST_S, MOST_S = 0.1, 1.0
WORD = f"{'abcdefg' * 9} "
SCRIPTS = {
    "slow": Script(text=WORD * 12, delay_between_s=0.03),
    "metered": Script(text=WORD * 400, delay_between_s=0.001),  # takes further holds as it flows
    "main": Script(text=WORD, delay_first_s=0.05),
    "first": Script(status=500),  # falls back to a model that answers
}


class Caller(threading.Thread):
    """Asks one thing after the other until its server is gone. `told` is what it was charged, by the label of the request."""

    def __init__(self, server: Server, key: str, seed: int) -> None:
        super().__init__()
        self._server = server
        self._key = key
        self._choices = random.Random(seed)
        self.asked: list[str] = []
        self.told: dict[str, int] = {}

    def run(self) -> None:
        try:
            while True:
                self._ask(f"kill-{uuid.uuid4()}")
        except OSError:
            pass  # The server is gone.

    def _ask(self, label: str) -> None:
        self.asked.append(label)
        stream, model = self._choices.random() < 0.75, self._choices.choice(list(SCRIPTS))
        limit = 50_000 if model == "metered" else 400
        body = {"model": model, "messages": [{"role": "user", "content": "Go on."}], "stream": stream, "max_tokens": limit}
        with WireClient(self._server.port, self._key, body, x_request_id=label, connection="close") as client:
            answer = client.read_all()
        if stream and answer.endswith(b"data: [DONE]\n\n"):
            self.told[label] = charge_in(answer.split(b"\n\n")[-3].removeprefix(b"data: "))
        elif not stream and answer.endswith(b"}"):
            self.told[label] = charge_in(answer)


def charge_in(answer: bytes) -> int:
    said = json.loads(answer, parse_float=str, parse_int=str)
    return microcredits(said["credits_used"])


def kill_while_it_streams(hasty: Installation, choices: random.Random, violations: Callable[[], list[str]]) -> list[Caller]:
    with hasty.server() as server:
        wait_until_swept(hasty.books)
        assert violations() == []
        callers = [Caller(server, hasty.keys["acme"], choices.getrandbits(32)) for _ in range(CLIENTS)]
        for caller in callers:
            caller.start()
        time.sleep(choices.uniform(LEAST_S, MOST_S))
        while not hasty.books.count_holds("open"):
            time.sleep(0.001)
        server.kill()
        for caller in callers:
            caller.join()
    return callers


def wait_until_swept(books: Books) -> None:
    """What the killed server held is given back by the next one, when its lease is over."""
    served_s = time.monotonic()
    while books.count_holds("open"):
        assert time.monotonic() < served_s + HOLD_LEASE_S + SWEEP_EVERY_S + GRACE_S, "a hold is still open"
        time.sleep(0.02)


def assert_told_the_truth(books: Books, callers: list[Caller]) -> None:
    for label, charged in [pair for caller in callers for pair in caller.told.items()]:
        booked = books.of_request(label)
        assert (booked.status, booked.charged_microcredits, booked.entry_microcredits) == (200, charged, charged)
        assert "open" not in booked.states


@pytest.mark.parametrize(
    "kills", [pytest.param(3, id="short"), pytest.param(200, id="long", marks=[pytest.mark.long, pytest.mark.timeout(10_800)])]
)
def test_a_server_that_is_killed_while_it_streams(hasty: Installation, provider: FakeProvider, kills: int):
    choices, books = random.Random(kills), hasty.books
    told = orphans = 0
    expired_before = books.count_holds("expired")
    with hasty.prover() as violations:
        for _ in range(kills):
            for model, script in SCRIPTS.items():
                provider.script(model, script)
            callers = kill_while_it_streams(hasty, choices, violations)
            orphans += books.count_holds("open")
            told += sum(len(caller.told) for caller in callers)
            assert_told_the_truth(books, callers)
            provider.reset()
    with hasty.server():
        wait_until_swept(books)
    assert told > 0
    assert books.count_holds("expired") - expired_before == orphans > 0
    hasty.run("manage.py", "reconcile_ledger")
