"""What the writer does while its database is away, locked, or lost between commit and answer."""

import asyncio
import time

import psycopg
import pytest
from django.db import connection
from structlog.testing import capture_logs

from billing.errors import LedgerUnavailable
from billing.ledger.engines import engine_of_django
from billing.ledger.operations import Held, Settled
from billing.ledger.postgresql import PostgresqlEngine
from billing.ledger.reconcile import reconcile
from billing.models import Entry, Hold, UsageRecord
from tests.unit.billing.books import hold_of, note_of, open_workspace, settle_of, with_writer
from tests.unit.billing.engines import ForgetfulEngine, impatient_engine, locked_account

LOCK_TIMEOUT_S = 2.0

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_locked_database_refuses_holds_and_keeps_settlements():
    acme = open_workspace(100)
    hold = hold_of(acme, 40)
    with_writer(lambda writer: writer.hold(hold))

    async def scenario(writer):
        with locked_account(acme.account_id):
            settlement = asyncio.create_task(writer.settle(settle_of(acme, hold.generation, 15)))
            begin = time.monotonic()
            with pytest.raises(LedgerUnavailable) as refusal:
                await writer.hold(hold_of(acme, 1))
            assert time.monotonic() - begin < 3
            assert dict(refusal.value.headers)["retry-after"]
            await asyncio.sleep(0.5)
            assert not settlement.done()
        assert await settlement == Settled(15, 0)
        return await writer.hold(hold_of(acme, 1))

    with capture_logs() as logs:
        assert with_writer(scenario, impatient_engine(0.3)) == Held(1, 84)
    assert {entry["event"] for entry in logs} == {"the ledger's database is unavailable"}
    assert Hold.objects.count() == 2
    assert reconcile() == []


async def has_been_late(logs, *, times):
    for _ in range(400):
        if sum(entry["event"] == "settlement is late" for entry in logs) >= times:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(logs)


@pytest.mark.slow
def test_a_settlement_is_tried_until_the_database_is_back(settings):
    """However long that is after the lease; one whose client has left too."""
    settings.HOLD_LEASE_S = 0.3
    settings.LEDGER_RETRY_LATE_S = 0.2
    acme = open_workspace(100)
    awaited, left = hold_of(acme, 40), hold_of(acme, 40)

    async def scenario(writer):
        await asyncio.gather(writer.hold(awaited), writer.hold(left))
        with locked_account(acme.account_id), capture_logs() as logs:
            settlement = asyncio.create_task(writer.settle(settle_of(acme, awaited.generation, 15)))
            gone = asyncio.create_task(writer.settle(settle_of(acme, left.generation, 7)))
            await has_been_late(logs, times=4)
            gone.cancel()
            assert not settlement.done()
            assert writer.is_settling
        assert await settlement == Settled(15, 0)

    with_writer(scenario, impatient_engine(0.3))  # whose end writes what nobody waits for
    assert acme.account().posted_microcredits == 78
    assert set(Hold.objects.values_list("state", flat=True)) == {"settled"}
    assert reconcile() == []


@pytest.mark.slow
def test_a_late_settlement_keeps_no_other_account_waiting(settings):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock for all accounts")
    settings.HOLD_LEASE_S = 0.3
    settings.LEDGER_RETRY_LATE_S = 60
    acme, rival = open_workspace(100), open_workspace(100)
    hold = hold_of(acme, 40)

    async def scenario(writer):
        await writer.hold(hold)
        with locked_account(acme.account_id), capture_logs() as logs:
            settlement = asyncio.create_task(writer.settle(settle_of(acme, hold.generation, 15)))
            await has_been_late(logs, times=1)
            await asyncio.sleep(1)  # the first late try fails
            for _ in range(3):
                assert await writer.hold(hold_of(rival, 1))
        assert not settlement.done()
        await writer.stop()
        assert await settlement == Settled(15, 0)

    with_writer(scenario, impatient_engine(0.3))


@pytest.mark.slow
def test_a_locked_account_refuses_nobody_else():
    """As whoever forgot to end a transaction keeps it: the others go on, and who is concerned is told so without waiting."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock for all accounts")
    acme, rival = open_workspace(100), open_workspace(100)
    hold = hold_of(acme, 40)

    async def scenario(writer):
        await writer.hold(hold)
        with locked_account(acme.account_id):
            settlement = asyncio.create_task(writer.settle(settle_of(acme, hold.generation, 15)))
            refused, held = await asyncio.gather(
                writer.hold(hold_of(acme, 1)), writer.hold(hold_of(rival, 1)), return_exceptions=True
            )
            assert (type(refused), held) == (LedgerUnavailable, Held(1, 99))
            begin = time.monotonic()
            for left in range(98, 88, -1):
                with pytest.raises(LedgerUnavailable):
                    await writer.hold(hold_of(acme, 1))
                assert await writer.hold(hold_of(rival, 1)) == Held(1, left)
                await asyncio.sleep(0.1)
            assert time.monotonic() - begin < 1 + LOCK_TIMEOUT_S, "nobody waited for the lock again"
            assert not settlement.done()
        assert await settlement == Settled(15, 0)
        return await writer.hold(hold_of(acme, 1))

    engine = PostgresqlEngine(engine_of_django().parameters, lock_timeout_s=LOCK_TIMEOUT_S)
    with capture_logs() as logs:
        assert with_writer(scenario, engine) == Held(1, 84)
    assert [entry["event"] for entry in logs] == ["accounts are locked", "settlement is late"]
    assert reconcile() == []


def test_what_cannot_be_settled_before_the_process_ends_is_told(settings):
    settings.LEDGER_FLUSH_RETRY_S = 0.3
    acme = open_workspace(100)
    hold = hold_of(acme, 40)

    async def scenario(writer):
        await writer.hold(hold)
        with locked_account(acme.account_id):
            settlement = asyncio.create_task(writer.settle(settle_of(acme, hold.generation, 15)))
            await asyncio.sleep(0)
            await writer.stop()
            with pytest.raises(LedgerUnavailable):
                await settlement

    with capture_logs() as logs:
        with_writer(scenario, impatient_engine(0.3))
    assert [entry["generation"] for entry in logs if entry["event"] == "settlement given up"] == [hold.generation]
    assert Hold.objects.get().state == "open"


def test_a_commit_whose_answer_was_lost_is_asked_again():
    acme = open_workspace(100)
    hold = hold_of(acme, 40)
    with_writer(lambda writer: writer.hold(hold))
    engine = ForgetfulEngine(lost=2)
    assert with_writer(lambda writer: writer.settle(settle_of(acme, hold.generation, 15)), engine) == Settled(15, 0)
    assert engine.batches == [1, 1, 1]
    assert Entry.objects.filter(kind="usage").count() == 1
    assert reconcile() == []


def test_a_hold_whose_answer_was_lost_is_released_by_its_settlement():
    acme, engine = open_workspace(100), ForgetfulEngine(lost=1)
    hold = hold_of(acme, 40)

    async def scenario(writer):
        with pytest.raises(LedgerUnavailable):
            await writer.hold(hold)
        return await writer.settle(settle_of(acme, hold.generation, 0, status=503))

    assert with_writer(scenario, engine) == Settled(0, 0)
    assert Hold.objects.get().state == "voided"
    assert reconcile() == []


def test_a_note_is_dropped_while_the_database_is_away():
    acme = open_workspace(100)

    async def scenario(writer):
        with locked_account(acme.account_id):
            writer.note(note_of(acme, "chatcmpl-a"))
            with pytest.raises(LedgerUnavailable):
                await writer.hold(hold_of(acme, 1))
        return await writer.hold(hold_of(acme, 1))

    assert with_writer(scenario, impatient_engine(0.3)) == Held(1, 99)
    assert UsageRecord.objects.count() == 0


def test_a_connection_that_died_while_it_was_idle_is_replaced():
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no server")
    acme = open_workspace(100)

    async def scenario(writer):
        await writer.hold(hold_of(acme, 1))
        parameters = engine_of_django().parameters
        async with await psycopg.AsyncConnection.connect(**parameters, autocommit=True) as other:
            ended = await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND datname = current_database() AND query = 'COMMIT'"
            )
            assert await ended.fetchall() == [(True,)]
        return await writer.hold(hold_of(acme, 1))

    with capture_logs() as logs:
        assert with_writer(scenario) == Held(1, 98)
    assert logs == []


def test_a_database_file_that_is_gone_is_not_made_anew(tmp_path):
    if connection.vendor != "sqlite":
        pytest.skip("a file is SQLite's")
    acme = open_workspace(100)
    engine = type(engine_of_django())(str(tmp_path / "gone.sqlite3"))

    async def scenario(writer):
        with pytest.raises(LedgerUnavailable):
            await writer.hold(hold_of(acme, 1))

    with_writer(scenario, engine)
    assert list(tmp_path.iterdir()) == []
