"""`kill -9` of the server while it streams, again and again: no credit is created or lost, and no hold stays open.

The books are proven after each kill, once the next server has given back what the killed one held. Of several worker
processes one is killed alone.

What a client was told before the kill stands in the books; what it was not told is either booked or free.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
import uuid

import pytest

from billing.pricing import microcredits
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.catalog import cost
from tests.live.gateway import Installation, Server
from tests.live.sweeps import wait_until_expired, wait_until_swept
from tests.live.wire import WireClient

CLIENTS = 8
KILLED = "killed"  # what PostgreSQL knows the server as
LEAST_S, MOST_S = 0.1, 1.0
WORD = f"{'abcdefg' * 9} "
USAGE = {"prompt_tokens": 7, "completion_tokens": 20}
LONG = Script(text=WORD * 120, delay_between_s=0.05, usage=USAGE)  # beyond the lease of whoever is killed beside it
LEAST_STREAMS, MOST_STREAMS = 3, 200
SCRIPTS = {
    "slow": Script(text=WORD * 12, delay_between_s=0.03),
    "metered": Script(text=WORD * 400, delay_between_s=0.001),  # takes further holds as it flows
    "main": Script(text=WORD, delay_first_s=0.05, usage=USAGE),
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


def kill_while_it_streams(hasty: Installation, choices: random.Random, last_killed_s: float) -> tuple[float, list[Caller]]:
    """When it was killed, and who asked it. What its predecessor held is given back before anybody asks."""
    with hasty.server(PGAPPNAME=KILLED) as server:
        wait_until_swept(hasty.books, killed_s=last_killed_s, served_s=time.monotonic())
        hasty.run("manage.py", "reconcile_ledger")
        callers = [Caller(server, hasty.keys["acme"], choices.getrandbits(32)) for _ in range(CLIENTS)]
        for caller in callers:
            caller.start()
        time.sleep(choices.uniform(LEAST_S, MOST_S))
        while not hasty.books.count_holds("open"):
            time.sleep(0.001)
        server.kill()
        killed_s = time.monotonic()
        for caller in callers:
            caller.join()
        hasty.books.wait_until_gone(KILLED)
    return killed_s, callers


def assert_told_the_truth(books: Books, callers: list[Caller]) -> None:
    for label, charged in [pair for caller in callers for pair in caller.told.items()]:
        booked = books.of_request(label)
        assert (booked.status, booked.charged_microcredits, booked.entry_microcredits) == (200, charged, charged)
        assert "open" not in booked.states


@pytest.mark.slow
@pytest.mark.parametrize(
    "kills", [pytest.param(3, id="short"), pytest.param(200, id="long", marks=[pytest.mark.long, pytest.mark.timeout(10_800)])]
)
def test_a_server_that_is_killed_while_it_streams(hasty: Installation, provider: FakeProvider, kills: int):
    choices, books = random.Random(kills), hasty.books
    told = orphans = 0
    killed_s = 0.0
    expired_before = books.count_holds("expired")
    for _ in range(kills):
        for model, script in SCRIPTS.items():
            provider.script(model, script)
        killed_s, callers = kill_while_it_streams(hasty, choices, killed_s)
        orphans += books.count_holds("open")
        told += sum(len(caller.told) for caller in callers)
        assert_told_the_truth(books, callers)
        provider.reset()
    with hasty.server():
        wait_until_swept(books, killed_s=killed_s, served_s=time.monotonic())
    assert told > 0
    assert books.count_holds("expired") - expired_before == orphans > 0
    hasty.run("manage.py", "reconcile_ledger")


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_streams(hasty: Installation, provider: FakeProvider):
    """Its sibling goes on and takes what is new, another one takes its place, and what it held is given back in time."""
    provider.script("slow", LONG)
    provider.script("main", SCRIPTS["main"])
    expired_before = hasty.books.count_holds("expired")
    with hasty.server(workers=2) as server, contextlib.ExitStack() as clients:
        streams = streams_of_each_worker(hasty, server, clients)
        victim, sibling = streams
        os.kill(victim, signal.SIGKILL)
        killed_s = time.monotonic()
        assert_served(hasty, server)
        for _, stream in streams[victim]:
            assert b"data: [DONE]" not in stream.read_rest()
        wait_until_expired(hasty.books, expired_before + len(streams[victim]), killed_s=killed_s)
        for label, stream in streams[sibling]:
            *_, credits, end = stream.read_rest()
            booked = hasty.books.of_request(label)
            assert (end, booked.end_state, booked.states) == (b"data: [DONE]", "done", ["settled"])
            assert booked.entry_microcredits == charge_in(credits.removeprefix(b"data: ")) == cost("slow", *USAGE.values())
        server.wait_for_workers(3)
        assert len(server.worker_pids()) == 2
        assert victim not in server.worker_pids()
        assert_served(hasty, server)
        hasty.run("manage.py", "reconcile_ledger")
    assert [label for label, _ in streams[victim] if hasty.books.count(label)] == [], "nobody knows how they went"
    assert hasty.books.count_holds("expired") == expired_before + len(streams[victim])


def streams_of_each_worker(
    hasty: Installation, server: Server, clients: contextlib.ExitStack
) -> dict[int, list[tuple[str, WireClient]]]:
    """Some open streams with their labels, by the process that serves them."""
    streams: dict[int, list[tuple[str, WireClient]]] = {pid: [] for pid in server.worker_pids()}
    body = {"model": "slow", "messages": [{"role": "user", "content": "Go on."}], "stream": True}
    while min(map(len, streams.values())) < LEAST_STREAMS:
        assert sum(map(len, streams.values())) < MOST_STREAMS, "one process takes all"
        label = f"kill-{uuid.uuid4()}"
        stream = clients.enter_context(WireClient(server.port, hasty.keys["acme"], body, x_request_id=label))
        assert stream.read_head()[0] == 200
        streams[server.worker_of(stream.local_port)].append((label, stream))
    return streams


def assert_served(hasty: Installation, server: Server) -> None:
    body = {"model": "main", "messages": [{"role": "user", "content": "Still there?"}]}
    with WireClient(server.port, hasty.keys["acme"], body, connection="close") as client:
        assert charge_in(client.read_all()) == cost("main", *USAGE.values())
