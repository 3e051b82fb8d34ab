"""Two hosts, one of two processes, on one database, one Redis and one store: what holds on one holds on the other."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from chat.health import LEAST_FAILURES
from tests.fakes import pdfs
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.conftest import TIMEOUT_S
from tests.live.faults.siege import PATIENT, Siege
from tests.live.faults.traffic import Traffic, script
from tests.live.gateway import Server
from tests.live.rows.refusals import assert_refused
from tests.live.wire import WireClient

pytestmark = pytest.mark.slow

PROCESSES = 2
MOST_PLACES = 3
BOUND_S = 1.0
"""Within which every process serves a change of the catalogue, and believes what it knows of a key."""
PATIENCE_S = 20.0
TRIES = 12
PDF = pdfs.of_pages(["One page."])


@pytest.fixture(scope="module")
def other(siege: Siege) -> Iterator[Server]:
    with siege.server(workers=PROCESSES, TESTS_BREAKER_FAILURES=str(LEAST_FAILURES), **PATIENT) as running:
        yield running


@pytest.fixture
def hosts(siege: Siege, fortress: Server, other: Server) -> Iterator[list[httpx.Client]]:
    """Both, on a connection for each request, so that each process gets some."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(client_of(server, siege.keys["counted"])) for server in (fortress, other)]


def client_of(server: Server, key: str) -> httpx.Client:
    headers = {"authorization": f"Bearer {key}", "connection": "close"}
    return httpx.Client(base_url=server.base_url, headers=headers, timeout=TIMEOUT_S, trust_env=False)


def post(client: httpx.Client, model: str = "main", *parts: Any, **headers: str) -> httpx.Response:
    content = [{"type": "text", "text": "Hello"}, *parts]
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    return client.post(
        "/chat/completions", json=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def everywhere(hosts: list[httpx.Client], is_so: Callable[[httpx.Client], bool]) -> None:
    """Wait for the bound of a change; from then on it is so in every process."""
    time.sleep(BOUND_S)
    deadline = time.monotonic() + PATIENCE_S  # this machine may be busy
    while not all(is_so(host) for host in hosts for _ in range(TRIES)):
        assert time.monotonic() < deadline


def test_a_file_is_at_home_on_both(hosts: list[httpx.Client]):
    here, there = hosts
    file_id = here.post("/files", data={"purpose": "user_data"}, files={"file": ("a.pdf", PDF)}).json()["id"]
    assert there.get(f"/files/{file_id}/content").content == PDF
    assert post(there, "main", {"type": "file", "file": {"file_id": file_id}}).status_code == 200
    assert there.delete(f"/files/{file_id}").status_code == 200
    assert_refused(here.get(f"/files/{file_id}"), 404, "file_not_found")


def test_an_idempotency_key_runs_once_for_both(hosts: list[httpx.Client], provider: FakeProvider):
    key = str(uuid.uuid4())
    first, again = (post(host, idempotency_key=key) for host in hosts)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(provider.requests()) == 1


def test_places_are_counted_together(siege: Siege, fortress: Server, other: Server, provider: FakeProvider):
    """By Redis: of many requests at once on both hosts exactly as many get in as the key may have."""
    key = siege.mint(max_concurrent_requests=MOST_PLACES)
    provider.script("slow", Script(text="word " * 200, delay_between_s=0.1))
    body = {"model": "slow", "messages": [{"role": "user", "content": "Go on."}], "stream": True}
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(WireClient(server.port, key, body)) for server in (fortress, other) for _ in range(4)]
        statuses = [client.read_head()[0] for client in clients]
    assert sorted(statuses) == [200] * MOST_PLACES + [429] * (len(clients) - MOST_PLACES)
    provider.wait_for(lambda requests: all(one.closed_s for one in requests))
    siege.assert_quiet()


def test_a_change_of_the_catalogue_is_served_by_every_process(siege: Siege, hosts: list[httpx.Client]):
    def is_gone(host: httpx.Client) -> bool:
        return post(host, "plain").status_code == 404

    assert not any(is_gone(host) for host in hosts)
    switch(siege, is_enabled=False)
    try:
        everywhere(hosts, is_gone)
    finally:
        switch(siege, is_enabled=True)
    everywhere(hosts, lambda host: not is_gone(host))


def switch(siege: Siege, *, is_enabled: bool) -> None:
    siege.run_sql(
        f"UPDATE chat_catalogmodel SET is_enabled = {is_enabled} WHERE slug = 'plain'",  # noqa: S608 - True or False
        "UPDATE chat_catalogstamp SET version = version + 1",
    )


def test_a_key_that_is_revoked_is_refused_by_every_process_at_once(siege: Siege, fortress: Server, other: Server):
    key = siege.mint()
    with client_of(fortress, key) as here, client_of(other, key) as there:
        for _ in range(TRIES):  # so that each process knows it
            assert {post(client).status_code for client in (here, there)} == {200}
        siege.revoke(key)
        for client in (here, there) * TRIES:
            assert_refused(post(client), 401, "invalid_api_key")


def test_each_process_finds_out_by_itself_that_a_target_fails(other: Server, siege: Siege, provider: FakeProvider):
    """So a provider in trouble is asked at most a handful of times by each, and a few times more while that goes on."""
    provider.script("third", Script(status=500))
    started_s = time.monotonic()
    with client_of(other, siege.keys["counted"]) as client:
        answers = [post(client, "third") for _ in range(PROCESSES * LEAST_FAILURES + 4 * TRIES)]
    probes = PROCESSES * (1 + int(time.monotonic() - started_s))
    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in answers} == {
        (502, "upstream_error"),
        (503, "model_overloaded"),
    }
    assert len(provider.requests()) <= PROCESSES * LEAST_FAILURES + probes


def test_tomorrows_migration_runs_while_today_serves(siege: Siege, fortress: Server, other: Server):
    """On the tables that every request reads and writes: each is answered, and the rules of the ledger stay."""
    script(siege.provider)
    key = siege.keys["counted"]
    with Traffic(fortress.port, key, people=3) as here, Traffic(other.port, key, people=3) as there:
        while len(here.answers) + len(there.answers) < TRIES:
            time.sleep(0.02)
        siege.gateway.run("manage.py", "migrate", "tomorrow", DJANGO_SETTINGS_MODULE="tests.live.faults.tomorrow.settings")
        migrated = len(here.answers) + len(there.answers)
        while len(here.answers) + len(there.answers) < migrated + 2 * TRIES:
            time.sleep(0.02)
    answers = here.answers + there.answers
    outcomes = {(answered.status, answered.code) for answered in answers}
    assert outcomes <= {(200, ""), (200, "ledger_unavailable"), (503, "ledger_unavailable")}
    siege.assert_quiet()
    siege.assert_accounted_for(answers)
