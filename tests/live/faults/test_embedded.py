"""The embedded database under fire: a disk without room, and a migration that makes a table anew while requests come in."""

from __future__ import annotations

import contextlib
import random
import resource
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.live.faults.traffic import Traffic, script
from tests.live.gateway import Installation, Server
from tests.live.test_killing import wait_until_swept

MOST_MORE_BYTES = 300_000
"""What some requests write ahead, so that some get through before there is no room, and some do not."""
ENOUGH = 15


@pytest.fixture(scope="module")
def embedded(provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("embedded")
    made = Installation(folder, provider_process, settings="tests.live.hasty", database_url="")
    yield made
    made.run("manage.py", "reconcile_ledger")
    made.books.close()


@pytest.fixture(scope="module")
def server(embedded: Installation) -> Iterator[Server]:
    with embedded.server(LOG_LEVEL="CRITICAL") as running:  # what it would tell meets the limit, too
        yield running


@contextlib.contextmanager
def no_room(server: Server, limit_bytes: int) -> Iterator[None]:
    """The process may write no file beyond so many bytes, which it meets in the middle of whatever it writes."""
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))


@pytest.mark.parametrize(
    "times", [pytest.param(3, id="short"), pytest.param(100, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_a_disk_that_fills_up(embedded: Installation, server: Server, provider: FakeProvider, times: int):
    """Nothing is torn at whatever byte it happens: requests are refused, what was told is booked, and it serves again."""
    script(provider)
    choices = random.Random(times)
    for number in range(times):
        empty_the_log(embedded.sqlite_path)
        # Who was let in before waits until there is room again, so that his answer can be booked.
        with (
            Traffic(server.port, embedded.keys["acme"], people=4, seed=number) as traffic,
            no_room(server, choices.randrange(MOST_MORE_BYTES)),
            httpx.Client(
                base_url=server.base_url, headers={"authorization": f"Bearer {embedded.keys['acme']}"}, trust_env=False
            ) as client,
        ):
            while not is_refused(client):
                time.sleep(0.02)
            assert client.get("/models").status_code == 200, "reads go on"
        seen = {(answered.status, answered.code) for answered in traffic.answers}
        assert seen <= {(200, ""), (200, "ledger_unavailable"), (503, "ledger_unavailable")}, seen
        with Traffic(server.port, embedded.keys["acme"], people=1) as after:
            while len(after.answers) < 2:
                time.sleep(0.02)
        assert {answered.status for answered in after.answers} == {200}
        wait_until_swept(embedded.books)
        for answered in (*traffic.answers, *after.answers):
            if answered.is_whole:
                booked = embedded.books.of_request(answered.label)
                assert booked.charged_microcredits == booked.entry_microcredits == answered.told_microcredits
        assert is_whole(embedded.sqlite_path)
    embedded.run("manage.py", "reconcile_ledger")


def is_refused(client: httpx.Client) -> bool:
    """Whether one who comes now is sent away. He waits for a moment only: he may be the last who is let in."""
    body = {"model": "main", "messages": [{"role": "user", "content": "Is there room?"}], "max_tokens": 400}
    try:
        answer = client.post("/chat/completions", json=body, timeout=2)
    except httpx.ReadTimeout:
        return False
    return (answer.status_code, answer.json().get("error", {}).get("code")) == (503, "ledger_unavailable")


def empty_the_log(path: Path) -> None:
    """Of what was written ahead: a log that is written over from its start would not meet the limit."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            time.sleep(0.01)


def is_whole(path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_tomorrows_migration_runs_while_today_serves(embedded: Installation, server: Server, provider: FakeProvider):
    """It makes a table anew under the writer's lock; requests wait for it or are told to come again."""
    script(provider)
    with Traffic(server.port, embedded.keys["acme"], people=4) as traffic:
        while len(traffic.answers) < ENOUGH:
            time.sleep(0.02)
        embedded.run("manage.py", "migrate", "tomorrow", DJANGO_SETTINGS_MODULE="tests.live.faults.tomorrow.settings")
        migrated = len(traffic.answers)
        while len(traffic.answers) < migrated + ENOUGH:
            time.sleep(0.02)
    assert {(answered.status, answered.code) for answered in traffic.answers} <= {(200, ""), (503, "ledger_unavailable")}
    for answered in traffic.answers:
        if answered.is_whole:
            assert embedded.books.of_request(answered.label).entry_microcredits == answered.told_microcredits
    embedded.run("manage.py", "reconcile_ledger")
