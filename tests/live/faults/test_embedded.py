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
from tests.live.faults.traffic import Traffic, assert_accounted_for, script
from tests.live.gateway import Installation, Server
from tests.live.hasty import HOLD_LEASE_S, SWEEP_EVERY_S
from tests.small_disk import SmallDisk, mounted_disk

pytestmark = pytest.mark.slow

MOST_MORE_BYTES = 300_000
"""What some requests write ahead, so that some get through before there is no room, and some do not."""
ENOUGH = 15
LONGER_EACH = 10
"""Of so many times once there is no room for longer than a lease, which then nobody can renew."""
DISK_BYTES = 64 * 1024 * 1024
QUIET = {"LOG_LEVEL": "CRITICAL"}
"""What a server would tell meets the limit, too."""
BOOKED_WITHIN_S = 30.0
"""When there is room again. A writer tries once a second; this machine may be busy."""


@pytest.fixture(scope="module")
def embedded(provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("embedded")
    made = Installation(folder, provider_process, settings="tests.live.hasty", database_url="", environment=QUIET)
    yield made
    made.run("manage.py", "reconcile_ledger")
    made.books.close()


@pytest.fixture(scope="module")
def server(embedded: Installation) -> Iterator[Server]:
    with embedded.server() as running:
        yield running


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, SmallDisk]]:
    folder = tmp_path_factory.mktemp("small")
    with mounted_disk(folder, DISK_BYTES) as disk:
        yield folder, disk


@pytest.fixture(scope="module")
def cramped(provider_process: FakeProvider, small_disk: tuple[Path, SmallDisk]) -> Iterator[Installation]:
    """A gateway whose database and all else are on the small disk."""
    folder, _ = small_disk
    made = Installation(folder, provider_process, settings="tests.live.hasty", database_url="", environment=QUIET)
    yield made
    made.run("manage.py", "reconcile_ledger")
    made.books.close()


@contextlib.contextmanager
def limited(server: Server, limit_bytes: int) -> Iterator[None]:
    """The process may write no file beyond so many bytes, which it meets in the middle of whatever it writes."""
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))


@contextlib.contextmanager
def filled(disk: SmallDisk, path: Path, left_bytes: int) -> Iterator[None]:
    """The database is on that disk, and is told so: "disk full" is another error than that of a limit."""
    with disk.filled(left_bytes):
        yield
        with contextlib.closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"CREATE TABLE too_much AS SELECT zeroblob({2 * MOST_MORE_BYTES})")
            with pytest.raises(sqlite3.OperationalError, match="database or disk is full"):
                connection.execute("COMMIT")


TIMES = pytest.mark.parametrize(
    "times", [pytest.param(3, id="short"), pytest.param(100, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)


@TIMES
def test_a_limit_of_files_is_met(embedded: Installation, server: Server, provider: FakeProvider, times: int):
    """At whatever byte it happens."""
    choices = random.Random(times)
    for number in range(times):
        empty_the_log(embedded.sqlite_path)
        fill_up(embedded, server, provider, limited(server, choices.randrange(MOST_MORE_BYTES)), seed=number)
    embedded.run("manage.py", "reconcile_ledger")


@TIMES
def test_a_disk_that_fills_up(cramped: Installation, small_disk: tuple[Path, SmallDisk], provider: FakeProvider, times: int):
    """A real one, which has no room for anything else of the gateway either."""
    choices, (_, disk) = random.Random(times), small_disk
    with cramped.server() as server:
        for number in range(times):
            empty_the_log(cramped.sqlite_path)
            no_room = filled(disk, cramped.sqlite_path, choices.randrange(MOST_MORE_BYTES))
            fill_up(cramped, server, provider, no_room, seed=number)
    cramped.run("manage.py", "reconcile_ledger")


def fill_up(
    installation: Installation,
    server: Server,
    provider: FakeProvider,
    no_room: contextlib.AbstractContextManager[None],
    *,
    seed: int,
) -> None:
    """Nothing is torn: requests are refused, what was told is booked, no hold runs out meanwhile, and it serves again."""
    script(provider)
    key, books = installation.keys["acme"], installation.books
    expired_before = books.count_holds("expired")
    # Who was let in before waits until there is room again, so that his answer can be booked.
    with (
        Traffic(server.port, key, people=4, seed=seed) as traffic,
        no_room,
        httpx.Client(base_url=server.base_url, headers={"authorization": f"Bearer {key}"}, trust_env=False) as client,
    ):
        while not is_refused(client):
            time.sleep(0.02)
        assert client.get("/models").status_code == 200, "reads go on"
        if seed % LONGER_EACH == LONGER_EACH - 1:
            time.sleep(HOLD_LEASE_S + SWEEP_EVERY_S)
    seen = {(answered.status, answered.code) for answered in traffic.answers}
    assert seen <= {(200, ""), (200, "ledger_unavailable"), (503, "ledger_unavailable")}, seen
    with Traffic(server.port, key, people=1) as after:
        while len(after.answers) < 2:
            time.sleep(0.02)
    assert {answered.status for answered in after.answers} == {200}
    books.wait_until_none_is_held(time.monotonic() + BOOKED_WITHIN_S)
    assert books.count_holds("expired") == expired_before
    assert_accounted_for(books, provider, [*traffic.answers, *after.answers])
    assert is_whole(installation.sqlite_path)


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
    assert_accounted_for(embedded.books, provider, traffic.answers)
    embedded.run("manage.py", "reconcile_ledger")
