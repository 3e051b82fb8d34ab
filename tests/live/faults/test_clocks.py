"""The clock of the database jumps by an hour, forward and back, under requests that run: nothing that lives expires.

On SQLite it is the gateway's own clock as well, with which everything jumps that the process times by it.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.fakes.clock import JumpingClock
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.faults.traffic import WORD
from tests.live.gateway import Installation, Server
from tests.live.install import REQUESTS_PER_MINUTE
from tests.live.rows.refusals import assert_refused
from tests.live.test_workers import moment_s
from tests.live.wire import WireClient
from tests.migrated import copy_database, migrated_server

pytestmark = pytest.mark.slow

HOUR_S = 3600
ROUNDS_S = 5.0
"""Longer than a lease of these settings, and than a sweeper watches for."""
STREAMS = 6


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[tuple[JumpingClock, str]]:
    """A clock, and the address of a database that goes by it; that of SQLite is empty."""
    clock = JumpingClock()
    with contextlib.ExitStack() as stack:
        stack.callback(clock.close)
        url = ""
        if request.param == "postgresql":
            server = migrated_server(environment=clock.environment)
            stack.callback(server.stop)
            server.start()
            url = copy_database(server.url, "clocks")
        yield clock, url


@pytest.fixture(scope="module")
def timed(
    database: tuple[JumpingClock, str], provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    _, url = database
    made = Installation(tmp_path_factory.mktemp("timed"), provider_process, settings="tests.live.hasty", database_url=url)
    yield made
    made.run("manage.py", "reconcile_ledger")
    made.books.close()


@pytest.fixture(scope="module")
def server(database: tuple[JumpingClock, str], timed: Installation) -> Iterator[Server]:
    clock, url = database
    with timed.server(workers=1, **({} if url else clock.environment)) as running:
        yield running


@pytest.fixture
def clock(database: tuple[JumpingClock, str]) -> Iterator[JumpingClock]:
    clock, _ = database
    yield clock
    clock.jump(0)


def test_it_is_the_clock_of_the_ledger(clock: JumpingClock, timed: Installation, server: Server, label: str):
    clock.jump(HOUR_S)
    headers = {"authorization": f"Bearer {timed.keys['acme']}", "x-request-id": label}
    body = {"model": "main", "messages": [{"role": "user", "content": "Hello"}]}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=20, trust_env=False) as client:
        assert client.post("/chat/completions", json=body).status_code == 200
    [(written,)] = timed.books.rows("SELECT created_at FROM billing_usagerecord WHERE request_id = %s", label)
    assert HOUR_S - 60 < moment_s(written) - time.time() < HOUR_S + 60


def test_what_runs_is_served_and_paid(
    clock: JumpingClock, timed: Installation, server: Server, provider: FakeProvider, label: str
):
    """Its holds are renewed by the clock as it is, and are not taken for those of a process that died long ago."""
    provider.script("slow", Script(text=WORD * 2000, delay_between_s=0.05))
    body = {"model": "slow", "messages": [{"role": "user", "content": "Go on."}], "stream": True}
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(WireClient(server.port, timed.keys["acme"], body, x_request_id=f"{label}-{number}"))
            for number in range(STREAMS)
        ]
        for stream in streams:
            stream.read_head()
        for jump_s in (HOUR_S, -HOUR_S, 0):
            clock.jump(jump_s)
            time.sleep(ROUNDS_S)
            assert timed.books.count_holds("open") == STREAMS
        for stream in streams:
            stream.read_contents(10)
    for number in range(STREAMS):
        booked = timed.books.of_request(f"{label}-{number}")
        assert (booked.end_state, set(booked.states)) == ("client_gone", {"settled"})
        assert booked.charged_microcredits == booked.entry_microcredits > 0


def test_a_claim_of_what_runs_is_not_taken_for_a_dead_one(
    clock: JumpingClock, server: Server, timed: Installation, provider: FakeProvider
):
    """A repeat is told to come back, and later gets the first answer: the provider works once."""
    provider.script("main", Script(text="Once.", delay_first_s=ROUNDS_S))
    headers = {"authorization": f"Bearer {timed.keys['acme']}", "idempotency-key": str(uuid.uuid4())}
    body = {"model": "main", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with (
        httpx.Client(base_url=server.base_url, headers=headers, timeout=20, trust_env=False) as client,
        ThreadPoolExecutor(1) as beside,
    ):
        first = beside.submit(client.post, "/chat/completions", json=body)
        provider.wait_for(lambda requests: len(requests) == 1)
        for jump_s in (HOUR_S, -HOUR_S):
            clock.jump(jump_s)
            assert_refused(client.post("/chat/completions", json=body), 409, "idempotency_in_progress")
        content = first.result().content
        clock.jump(HOUR_S)
        again = client.post("/chat/completions", json=body)
    assert content.endswith(b"data: [DONE]\n\n")
    assert (again.content, again.headers["idempotent-replayed"]) == (content, "true")
    assert len(provider.requests()) == 1


@pytest.mark.usefixtures("provider")
def test_a_limit_gives_no_more_than_one_burst_for_a_jump(clock: JumpingClock, server: Server, timed: Installation):
    headers = {"authorization": f"Bearer {timed.keys['limited']}"}
    body = {"model": "main", "messages": [{"role": "user", "content": "Hello"}]}
    jumps = (0, HOUR_S, 0, -HOUR_S, 0)
    admitted = 0
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=20, trust_env=False) as client:
        for jump_s in jumps:
            clock.jump(jump_s)
            for _ in range(2 * REQUESTS_PER_MINUTE):
                admitted += client.post("/chat/completions", json=body).status_code == 200
    # A minute may end while this runs, which lets in another burst at most.
    assert REQUESTS_PER_MINUTE <= admitted <= REQUESTS_PER_MINUTE * (len(jumps) + 1)
    assert timed.books.open_holds() == 0
