"""Group commit: what is written together, what fails alone, who may leave, and how the writer stops."""

import asyncio
import time

import pytest

from billing.errors import LedgerUnavailable
from billing.ledger.operations import Held, Settled
from billing.ledger.reconcile import reconcile
from billing.ledger.writer import LedgerWriter
from billing.models import Entry, Hold, UsageRecord
from billing.pricing import MAX_MICROCREDITS
from infery_site.errors import ApiError
from tests.unit.billing.books import hold_of, note_of, open_workspace, settle_of, with_writer
from tests.unit.billing.engines import CancelledEngine, CountingEngine, StubbornEngine, impatient_engine, locked_account

pytestmark = pytest.mark.django_db(transaction=True)


# Gathering


def test_operations_that_come_together_share_a_transaction():
    acme, engine = open_workspace(100), CountingEngine()

    async def scenario(writer):
        holds = [hold_of(acme, 1) for _ in range(20)]
        await asyncio.gather(*(writer.hold(hold) for hold in holds))
        await asyncio.gather(*(writer.settle(settle_of(acme, hold.generation, 1)) for hold in holds))

    with_writer(scenario, engine)
    assert engine.batches == [20, 20]


def test_a_batch_has_a_limit():
    acme, engine = open_workspace(5000), CountingEngine()
    with_writer(lambda writer: asyncio.gather(*(writer.hold(hold_of(acme, 1)) for _ in range(1100))), engine)
    assert engine.batches == [500, 500, 100]
    assert reconcile() == []


def test_what_comes_during_a_flush_gathers_for_the_next():
    acme, engine = open_workspace(100), CountingEngine()

    async def scenario(writer):
        first = asyncio.create_task(writer.hold(hold_of(acme, 1)))
        await engine.began.wait()
        await asyncio.gather(first, *(writer.hold(hold_of(acme, 1)) for _ in range(9)))

    with_writer(scenario, engine)
    assert engine.batches == [1, 9]


@pytest.mark.parametrize(
    ("before", "turns_apart", "batches"),
    [(20, 3, [20, 4]), (20, 6, [20, 1, 3]), (2, 3, [2, 1, 3])],
    ids=["many", "many-but-long-ago", "few"],
)
def test_those_of_a_large_batch_are_expected_again(before, turns_apart, batches):
    """One of them asks at once, the others some turns of the loop later."""
    acme, engine = open_workspace(100), CountingEngine()

    async def later(writer):
        for _ in range(turns_apart):
            await asyncio.sleep(0)
        await asyncio.gather(*(writer.hold(hold_of(acme, 1)) for _ in range(3)))

    async def scenario(writer):
        await asyncio.gather(*(writer.hold(hold_of(acme, 1)) for _ in range(before)))
        engine.batches[1:] = []
        await asyncio.gather(writer.hold(hold_of(acme, 1)), later(writer))

    with_writer(scenario, engine)
    assert engine.batches == batches


# Failures stay where they belong


def test_neighbours_of_a_refused_operation_are_written():
    """The record of a failed request that was charged breaks a constraint; the database refuses the whole batch."""
    acme, engine = open_workspace(100), CountingEngine()
    holds = [hold_of(acme, 10) for _ in range(3)]

    async def scenario(writer):
        await asyncio.gather(*(writer.hold(hold) for hold in holds))
        settles = [
            settle_of(acme, hold.generation, 4, status=status) for hold, status in zip(holds, (200, 500, 200), strict=True)
        ]
        answers = await asyncio.gather(
            *(writer.settle(settle) for settle in settles), writer.hold(hold_of(acme, 5)), return_exceptions=True
        )
        assert isinstance(answers[1], ApiError)
        assert answers[1].code == "internal_error"
        return [answer for position, answer in enumerate(answers) if position != 1]

    assert with_writer(scenario, engine) == [Settled(4, 0), Settled(4, 0), Held(5, 77)]
    assert engine.batches == [3, 4, 1, 1, 1, 1]
    assert sorted(Hold.objects.values_list("state", flat=True)) == ["open", "open", "settled", "settled"]
    assert not UsageRecord.objects.filter(status=500).exists()
    assert reconcile() == []


def test_neighbours_of_an_operation_that_cannot_be_encoded_are_written():
    acme = open_workspace(100)
    bad = settle_of(acme, "chatcmpl-\ud800", 0)

    async def scenario(writer):
        return await asyncio.gather(writer.settle(bad), writer.hold(hold_of(acme, 5)), return_exceptions=True)

    refused, held = with_writer(scenario)
    assert isinstance(refused, ApiError)
    assert held == Held(5, 95)


def test_a_record_of_an_unknown_key_is_refused_alone():
    """Foreign keys are judged at COMMIT only."""
    acme = open_workspace(100)
    bad = settle_of(acme._replace(api_key_id=10**6), "chatcmpl-a", 0)

    async def scenario(writer):
        return await asyncio.gather(writer.settle(bad), writer.hold(hold_of(acme, 5)), return_exceptions=True)

    refused, held = with_writer(scenario)
    assert isinstance(refused, ApiError)
    assert held == Held(5, 95)
    assert UsageRecord.objects.count() == 0


def test_the_writer_outlives_a_batch_that_is_cancelled_in_its_engine():
    acme = open_workspace(100)

    async def scenario(writer):
        with pytest.raises(ApiError) as refusal:
            await writer.hold(hold_of(acme, 1))
        assert refusal.value.status == 500
        return await writer.hold(hold_of(acme, 2))

    assert isinstance(with_writer(scenario, CancelledEngine()), Held)
    assert acme.account().held_microcredits == 2


def test_a_generation_belongs_to_one_account():
    acme, rival = open_workspace(100), open_workspace(100, name="rival")
    hold = hold_of(acme, 5)

    async def scenario(writer):
        await writer.hold(hold)
        await writer.hold(hold_of(rival, 5, generation=hold.generation))

    with pytest.raises(ApiError) as refusal:
        with_writer(scenario)
    assert refusal.value.code == "internal_error"
    assert rival.account().held_microcredits == 0
    assert reconcile() == []


@pytest.mark.parametrize("actual", [-1, MAX_MICROCREDITS + 1])
def test_impossible_amounts_are_faults_of_the_caller(actual):
    acme = open_workspace(100)
    with pytest.raises(ValueError, match="charge"):
        with_writer(lambda writer: writer.settle(settle_of(acme, "chatcmpl-a", actual)))
    with pytest.raises(ValueError, match="negative"):
        with_writer(lambda writer: writer.hold(hold_of(acme, -1)))


# Waiters that leave


def test_a_cancelled_waiter_does_not_take_back_its_hold():
    acme = open_workspace(100)
    hold = hold_of(acme, 40)

    async def scenario(writer):
        waiter = asyncio.create_task(writer.hold(hold))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert await writer.hold(hold_of(acme, 60)) == Held(60, 0)
        return await writer.settle(settle_of(acme, hold.generation, 15))

    assert with_writer(scenario) == Settled(15, 0)
    assert reconcile() == []


def test_a_cancelled_waiter_does_not_take_back_its_settlement():
    acme = open_workspace(100)
    hold = hold_of(acme, 40)

    async def scenario(writer):
        await writer.hold(hold)
        waiter = asyncio.create_task(writer.settle(settle_of(acme, hold.generation, 15)))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    with_writer(scenario)
    assert Entry.objects.get(kind="usage").amount_microcredits == 15
    assert reconcile() == []


def test_a_hold_that_was_cancelled_and_settled_in_one_batch_does_not_stay_open():
    acme = open_workspace(100)
    hold = hold_of(acme, 40)

    async def scenario(writer):
        waiter = asyncio.create_task(writer.hold(hold))
        await asyncio.sleep(0)
        waiter.cancel()
        return await writer.settle(settle_of(acme, hold.generation, 0, status=499))

    assert with_writer(scenario) == Settled(0, 0)
    assert acme.account().held_microcredits == 0
    assert reconcile() == []


# Starting and stopping


def test_stop_writes_what_is_queued():
    acme = open_workspace(100)

    async def main():
        writer = LedgerWriter()
        await writer.start()
        waiters = [asyncio.create_task(writer.hold(hold_of(acme, 1))) for _ in range(10)]
        await asyncio.sleep(0)
        await writer.stop()
        return await asyncio.gather(*waiters)

    assert len(asyncio.run(main())) == 10
    assert acme.account().held_microcredits == 10


def test_stop_is_bounded_and_answers_those_who_wait(settings):
    settings.LEDGER_FLUSH_RETRY_S = 0.3
    acme = open_workspace(100)
    hold = hold_of(acme, 40)
    with_writer(lambda writer: writer.hold(hold))

    async def main():
        writer = LedgerWriter(impatient_engine(0.3))
        await writer.start()
        with locked_account(acme.account_id):
            waiter = asyncio.create_task(writer.settle(settle_of(acme, hold.generation, 15)))
            await asyncio.sleep(0)
            begin = time.monotonic()
            await writer.stop()
            assert time.monotonic() - begin < 2
            with pytest.raises(LedgerUnavailable):
                await waiter

    asyncio.run(main())


def test_stop_is_bounded_by_an_engine_too_that_makes_a_failure_of_it(settings):
    settings.LEDGER_FLUSH_RETRY_S = 0.1
    acme, engine = open_workspace(100), StubbornEngine()

    async def main():
        writer = LedgerWriter(engine)
        await writer.start()
        waiter = asyncio.create_task(writer.settle(settle_of(acme, "chatcmpl-a", 15)))
        await engine.began.wait()
        async with asyncio.timeout(5):
            await writer.stop()
        with pytest.raises(LedgerUnavailable):
            await waiter

    asyncio.run(main())
    assert engine.batches == [1]


def test_a_writer_that_is_not_running_refuses():
    acme = open_workspace(100)

    async def main():
        writer = LedgerWriter()
        with pytest.raises(LedgerUnavailable):
            await writer.hold(hold_of(acme, 1))
        await writer.start()
        await writer.stop()
        with pytest.raises(LedgerUnavailable):
            await writer.settle(settle_of(acme, "chatcmpl-a", 0))
        writer.note(note_of(acme, "chatcmpl-a"))

    asyncio.run(main())
    assert UsageRecord.objects.count() == 0
