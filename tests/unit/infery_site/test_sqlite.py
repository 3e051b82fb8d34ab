"""How SQLite's write lock is waited for: by asking often, for so long, and only where a wait helps."""

import sqlite3
import threading
import time

import pytest
from django.db import OperationalError, connection, transaction

from billing import audit
from billing.models import AuditEvent
from infery_site.sqlite import patiently

TOGETHER_S = 0.03
BETWEEN_S = 0.002


class Locker:
    """A second connection to the file, which locks it in a thread."""

    def __init__(self, path):
        self._path = path
        self._is_over = threading.Event()
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._lock)

    def _lock(self):
        other = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        while not self._is_over.is_set():
            other.execute("BEGIN IMMEDIATE")
            self._has_begun.set()
            time.sleep(TOGETHER_S)
            other.execute("COMMIT")
            time.sleep(BETWEEN_S)
        other.close()

    def __enter__(self):
        self._thread.start()
        assert self._has_begun.wait(10)
        return self

    def __exit__(self, *_error):
        self._is_over.set()
        self._thread.join()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some.sqlite3"
    made = sqlite3.connect(path, isolation_level=None)
    made.execute("PRAGMA journal_mode=WAL")
    made.execute("CREATE TABLE t (a)")
    made.close()
    return path


@pytest.fixture
def writer(file):
    writer = sqlite3.connect(file, isolation_level=None, timeout=0)
    yield writer
    writer.close()


def test_who_asks_often_gets_in_between_two_transactions(file, writer):
    with Locker(file):
        for number in range(30):
            patiently(lambda number=number: writer.execute("INSERT INTO t VALUES (?)", [number]), 20)
    assert writer.execute("SELECT count(*), sum(a) FROM t").fetchone() == (30, sum(range(30)))


def test_nobody_waits_longer_than_he_wants_to(file, writer):
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun_s = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        patiently(lambda: writer.execute("INSERT INTO t VALUES (1)"), 0.2)
    assert 0.2 <= time.monotonic() - begun_s < 5
    other.close()


def test_a_snapshot_that_is_too_old_is_not_waited_for(file, writer):
    other = sqlite3.connect(file, isolation_level=None)
    writer.execute("BEGIN")
    writer.execute("SELECT * FROM t").fetchall()
    other.execute("INSERT INTO t VALUES (1)")
    tries = []
    with pytest.raises(sqlite3.OperationalError) as caught:
        patiently(lambda: (tries.append(1), writer.execute("INSERT INTO t VALUES (2)")), 60)
    assert (caught.value.sqlite_errorcode, len(tries)) == (sqlite3.SQLITE_BUSY_SNAPSHOT, 1)
    other.close()


def test_what_fails_for_another_reason_fails_at_once(writer):
    tries = []
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        patiently(lambda: (tries.append(1), writer.execute("INSERT INTO u VALUES (2)")), 60)
    assert len(tries) == 1


needs_sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL's wait is a queue")


@needs_sqlite
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_atomic", [True, False], ids=["in-a-transaction", "alone"])
def test_django_writes_beside_who_writes_all_the_time(is_atomic):
    with Locker(connection.settings_dict["NAME"]):
        for _ in range(20):
            if is_atomic:
                with transaction.atomic():
                    audit.record("first", actor="a test")
                    audit.record("second", actor="a test")
            else:
                audit.record("only", actor="a test")
    assert AuditEvent.objects.filter(actor="a test").count() == (40 if is_atomic else 20)


@needs_sqlite
@pytest.mark.django_db(transaction=True)
def test_django_gives_up_after_its_timeout():
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    options = connection.settings_dict["OPTIONS"]
    usual, options["timeout"] = options["timeout"], 0.1
    try:
        with pytest.raises(OperationalError, match="locked"):
            audit.record("never", actor="a test")
    finally:
        options["timeout"] = usual
        other.close()
    audit.record("now", actor="a test")
    assert list(AuditEvent.objects.values_list("action", flat=True)) == ["now"]
