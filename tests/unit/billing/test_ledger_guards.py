"""The engines' own guards: what was decided on rows that have changed since is refused by the statement that writes it.

The locks of a batch keep that from happening; these tests write past them, as a fault above would.
"""

import asyncio
from datetime import UTC, datetime

import pytest

from billing.ledger import postgresql, sqlite
from billing.ledger.effects import AccountChange, BatchRejected, BudgetChange, ClosedHold, Effects
from billing.ledger.engines import engine_of_django
from billing.ledger.reconcile import reconcile
from billing.models import Budget, Hold
from tests.unit.billing.books import admit, hold_of, new_budget, open_workspace, settle_of, with_writer

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime.now(UTC)
CHANGED_SINCE = "not in the state they were read in|division by zero"


def write(**changes):
    """Write these changes in a transaction of the engine of the run. Raises BatchRejected."""
    effects = Effects(**{name: changes.get(name, []) for name in Effects.__struct_fields__})
    engine = engine_of_django()

    async def main():
        try:
            if isinstance(engine, sqlite.SqliteEngine):
                await engine._in_thread(lambda connection: in_sqlite(connection, effects))
            else:
                await engine._twice(lambda pipeline: in_postgresql(pipeline, effects))
        finally:
            await engine.close()

    asyncio.run(main())


def in_sqlite(connection, effects):
    connection.execute("BEGIN IMMEDIATE")
    try:
        sqlite._write(connection, effects, NOW, 0)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


async def in_postgresql(pipeline, effects):
    pipeline.execute(b"begin")
    postgresql._queue_write(pipeline, effects, NOW)
    pipeline.execute(b"commit")
    await pipeline.results(3, end=True)


def test_more_than_a_budget_has_left():
    acme = open_workspace(100)
    budget = new_budget("key", acme.api_key_id, 10, period="never")
    start = budget.period_started_at
    write(budgets=[BudgetChange(budget.pk, 0, 10, start)])
    with pytest.raises(BatchRejected, match=CHANGED_SINCE):
        write(budgets=[BudgetChange(budget.pk, 0, 1, start)])
    Budget.objects.update(limit_microcredits=3)
    write(budgets=[BudgetChange(budget.pk, 4, -10, start)])
    assert Budget.objects.values_list("spent_microcredits", "held_microcredits").get() == (4, 0)


def test_a_hold_that_was_closed_meanwhile():
    acme = open_workspace(100)
    [generation] = with_writer(lambda writer: admit(writer, acme, [10]))
    with_writer(lambda writer: writer.settle(settle_of(acme, generation, 4)))
    again = ClosedHold(Hold.objects.get().pk, "settled", 6, 0, "reported")
    with pytest.raises(BatchRejected, match=CHANGED_SINCE):
        write(closed_holds=[again])
    assert reconcile() == []


def test_an_account_that_is_not_there():
    acme = open_workspace(100)
    changes = [AccountChange(acme.account_id, 0, 10), AccountChange(acme.account_id + 1000, 0, 10)]
    with pytest.raises(BatchRejected, match=CHANGED_SINCE):
        write(accounts=changes)
    assert acme.account().held_microcredits == 0


@pytest.mark.parametrize(("posted", "held"), [(0, 101), (-101, 0), (-60, 60), (0, -1)])
def test_more_than_an_account_has(posted, held):
    acme = open_workspace(100)
    with pytest.raises(BatchRejected):
        write(accounts=[AccountChange(acme.account_id, posted, held)])
    account = acme.account()
    assert (account.posted_microcredits, account.held_microcredits) == (100, 0)


def test_of_a_batch_that_is_refused_nothing_stays():
    """What its first statements wrote is undone with the last one, which writes what no row may have."""
    acme = open_workspace(100)
    [generation] = with_writer(lambda writer: admit(writer, acme, [10]))
    impossible = settle_of(acme, generation, 4, latency_ms=None)
    engine = engine_of_django()

    async def main():
        try:
            await engine.run([hold_of(acme, 20), impossible])
        finally:
            await engine.close()

    with pytest.raises(BatchRejected):
        asyncio.run(main())
    account = acme.account()
    assert (account.posted_microcredits, account.held_microcredits) == (100, 10)
    assert list(Hold.objects.values_list("state", flat=True)) == ["open"]
    assert reconcile() == []
