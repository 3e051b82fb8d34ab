"""Four worker processes on one ledger: what one of them decides counts at once for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.gateway import Installation, Server
from tests.live.load import Load
from tests.live.tenants import Tenant, Wanted, make_tenants
from tests.live.wire import WireClient

WORKERS = 4
REPEATS = 200
LOAD: dict[str, Any] = {"model": "sandbox-echo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 16}
CONNECTIONS = 64
MOST_PER_S = 1000
LEAST_PER_S = 300  # a third of what two cores were seen to carry
STREAM: dict[str, Any] = {"model": "main", "messages": [{"role": "user", "content": "Go on."}], "stream": True}
STREAMS = 12
CUT_WITHIN_S = 5.0
AFTER_S = 1.2  # longer than any process may believe what it knows of a key
PLENTY = 10**12
CUT = (
    "SELECT status, error_code, charged_microcredits > 0 FROM billing_usagerecord"
    " WHERE api_key_id = %s AND end_state = 'revoked'"
)


@pytest.fixture(scope="module")
def crowd(installation: Installation) -> Iterator[Server]:
    with installation.server(workers=WORKERS) as running:
        yield running


@pytest.fixture(scope="module")
def tenants(installation: Installation) -> Iterator[Tenant]:
    """As many as there are tests here."""
    return iter(make_tenants(installation, *[Wanted(credit_microcredits=PLENTY)] * 4))


@pytest.fixture
def tenant(tenants: Iterator[Tenant]) -> Tenant:
    return next(tenants)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_two_hundred_at_once_under_one_idempotency_key_run_once(
    crowd: Server, provider: FakeProvider, books: Books, tenant: Tenant, stream
):
    """The others wait or get the same bytes, whichever process they reach."""
    provider.script("main", Script(text="Only once.", delay_first_s=1.0))
    headers = {"authorization": f"Bearer {tenant.key}", "idempotency-key": str(uuid.uuid4())}
    body = {"model": "main", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}

    async def post(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/chat/completions", json=body, headers=headers)

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=crowd.base_url, timeout=60, limits=limits, trust_env=False) as client:
        first = await asyncio.gather(*(post(client) for _ in range(REPEATS)))
        waiting = [answer for answer in first if answer.status_code == 409]
        again = await asyncio.gather(*(post(client) for _ in waiting))
    assert len(waiting) > 0
    assert {(answer.json()["error"]["code"], answer.headers["retry-after"]) for answer in waiting} == {
        ("idempotency_in_progress", "1")
    }
    good = [answer for answer in (*first, *again) if answer not in waiting]
    assert len(good) == REPEATS
    assert {(answer.status_code, answer.content) for answer in good} == {(200, good[0].content)}
    assert [answer.headers.get("idempotent-replayed") for answer in good].count(None) == 1
    assert len(provider.requests()) == 1
    records = books.rows(
        "SELECT generation FROM billing_usagerecord WHERE workspace_id = %s AND status = 200 AND end_state <> 'replayed'",
        tenant.workspace_id,
    )
    [(generation,)] = records
    booked = books.of(generation)
    assert booked.states == ["settled"]
    assert booked.charged_microcredits == booked.entry_microcredits > 0
    holds = "SELECT COUNT(*) FROM billing_hold h JOIN billing_account a ON a.id = h.account_id WHERE a.workspace_id = %s"
    assert books.rows(holds, tenant.workspace_id) == [(1,)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "least_per_s"),
    [
        pytest.param(500, 0, id="short"),
        pytest.param(20_000, LEAST_PER_S, id="long", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
def test_a_key_revoked_under_load_admits_nothing_more(
    crowd: Server,
    provider: FakeProvider,
    books: Books,
    tenant: Tenant,
    before: int,
    least_per_s: int,
    record_property: Callable[[str, object], None],
):
    """The promise is a second for requests; the ledger checks the key in the transaction of the hold, so it is none at all.

    Streams that are open then, in whichever process, end within five seconds. Both forms prove that nothing more is admitted
    and how streams end, with up to 64 requests in flight. Only the long one proves it under load: it is red where there
    were fewer requests a second than say something. The short one tells the rate and takes any.
    """
    provider.script("main", *[Script(text="word " * 3_000, delay_between_s=0.1), Script(hang_after=2)] * (STREAMS // 2))
    with contextlib.ExitStack() as open_streams:
        for _ in range(STREAMS):
            stream = open_streams.enter_context(WireClient(crowd.port, tenant.key, STREAM))
            stream.read_head()
            stream.read_contents(1)
        with Load(crowd.port, tenant.key, LOAD, connections=CONNECTIONS, most_per_s=MOST_PER_S) as load:
            began_s = time.monotonic()
            while len(load.asked) < before:
                time.sleep(0.01)
            per_s = len(load.asked) / (time.monotonic() - began_s)
            tell_rate(per_s, record_property)
            revoke(crowd, tenant)
            revoked_s, revoked_monotonic_s = time.time(), time.monotonic()
            time.sleep(AFTER_S)
        seen = provider.wait_for(lambda requests: all(one.closed_s for one in requests), CUT_WITHIN_S + AFTER_S)
    assert per_s >= least_per_s, "too little load to prove something by"
    assert {asked.status for asked in load.asked} == {200, 401}
    assert {asked.status for asked in load.asked if asked.sent_s > revoked_s} == {401}
    [(admitted, last)] = books.rows(
        "SELECT COUNT(*), MAX(created_at) FROM billing_hold WHERE api_key_id = %s", tenant.api_key_id
    )
    assert moment_s(last) <= revoked_s
    assert admitted == STREAMS + [asked.status for asked in load.asked].count(200) >= STREAMS + before
    assert len(seen) == STREAMS
    assert max(one.closed_s or 0 for one in seen) - revoked_monotonic_s <= CUT_WITHIN_S
    booked_by_s = time.monotonic() + CUT_WITHIN_S
    while len(ended := books.rows(CUT, tenant.api_key_id)) < STREAMS:  # what is cut is booked a moment later
        assert time.monotonic() < booked_by_s, ended
        time.sleep(0.02)
    assert [tuple(row) for row in ended] == [(200, "invalid_api_key", True)] * STREAMS
    assert books.rows("SELECT COUNT(*) FROM billing_hold WHERE api_key_id = %s AND state = 'open'", tenant.api_key_id) == [(0,)]


def tell_rate(requests_per_s: float, record_property: Callable[[str, object], None]) -> None:
    record_property("requests_per_s", round(requests_per_s))
    sys.stdout.write(f"revoked at {requests_per_s:.0f} requests/s\n")  # pytest -rA shows it


def revoke(crowd: Server, tenant: Tenant) -> None:
    """As its owner would, by one of the processes."""
    headers = {"authorization": f"Bearer {tenant.management_key}"}
    answer = httpx.delete(f"http://127.0.0.1:{crowd.port}{tenant.path}", headers=headers, timeout=20, trust_env=False)
    assert answer.status_code == 200


def moment_s(stored: datetime | str) -> float:
    """A time of the database on the system's clock; SQLite gives it as text."""
    moment = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
