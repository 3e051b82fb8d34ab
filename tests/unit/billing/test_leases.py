"""Leases: what keeps a hold open while its process lives."""

import asyncio
from datetime import timedelta

import pytest
from django.utils import timezone
from structlog.testing import capture_logs

from billing.ledger.engines import engine_of_django
from billing.ledger.operations import Settled
from billing.ledger.reconcile import reconcile
from billing.models import Hold, UsageRecord
from billing.pricing import MAX_MICROCREDITS
from billing.sweeping import Swept
from infery_site.errors import ApiError
from tests.unit.billing.books import (
    hold_of,
    open_workspace,
    settle_of,
    with_writer,
)
from tests.unit.billing.engines import CountingEngine, impatient_engine, locked_account
from tests.unit.billing.leases import hold_and_leave, in_thread, locked_hold, sweep

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.slow
def test_a_hold_stays_open_while_its_process_lives(settings):
    settings.HOLD_LEASE_S, settings.LEASE_RENEW_S = 1.0, 0.2
    acme = open_workspace(100)

    async def scenario(writer):
        hold = hold_of(acme, 40, lease_s=1.0)
        await writer.hold(hold)
        await asyncio.sleep(2)
        assert await asyncio.to_thread(in_thread(sweep)) == Swept()
        return await writer.settle(settle_of(acme, hold.generation, 15))

    assert with_writer(scenario) == Settled(15, 0)
    assert UsageRecord.objects.get().end_state == "done"
    assert reconcile() == []


@pytest.mark.slow
def test_only_what_is_held_is_renewed(settings):
    settings.LEASE_RENEW_S = 0.2
    acme, engine = open_workspace(100), CountingEngine()
    first, second, third = (hold_of(acme, 10) for _ in range(3))

    async def scenario(writer):
        for hold in (first, second, third):
            await writer.hold(hold)
        await writer.settle(settle_of(acme, second.generation, 5))
        with pytest.raises(ApiError):
            await writer.hold(hold_of(acme, 1000))
        await asyncio.sleep(0)  # a renewal that had begun before is told of
        del engine.renewals[:]
        await asyncio.sleep(1)
        renewed = list(engine.renewals)
        await writer.settle(settle_of(acme, first.generation, 0))
        await writer.settle(settle_of(acme, third.generation, 0))
        await asyncio.sleep(0)  # a renewal that had begun before is told of
        del engine.renewals[:]
        await asyncio.sleep(0.5)
        return renewed

    renewed = with_writer(scenario, engine)
    assert {tuple(generations) for generations in renewed} == {tuple(sorted([first.generation, third.generation]))}
    assert engine.renewals == []


def test_a_renewal_leaves_closed_holds_and_those_of_others(settings):
    acme = open_workspace(100)
    mine, other = hold_and_leave(acme, 10, 10)
    closed = hold_of(acme, 10)

    async def scenario(writer):
        await writer.hold(closed)
        await writer.settle(settle_of(acme, closed.generation, 0))
        engine = engine_of_django()
        await engine.renew([mine, closed.generation], 500.0)
        await engine.close()

    with_writer(scenario)
    left = {hold.generation: (hold.lease_expires_at - timezone.now()).total_seconds() for hold in Hold.objects.all()}
    assert 490 < left[mine] <= 500
    assert max(left[other], left[closed.generation]) <= 90


@pytest.mark.slow
def test_a_renewal_that_failed_is_tried_again(settings):
    settings.LEASE_RENEW_S = 0.1
    acme = open_workspace(100)

    async def scenario(writer):
        hold = hold_of(acme, 10, lease_s=5.0)
        await writer.hold(hold)
        row = Hold.objects.filter(generation=hold.generation)
        with locked_hold(hold.generation):
            await asyncio.sleep(1)
        await asyncio.sleep(0.6)
        (left,) = await asyncio.to_thread(in_thread(lambda: list(row.values_list("lease_expires_at", flat=True))))
        assert left - timezone.now() > timedelta(seconds=60)
        return await writer.settle(settle_of(acme, hold.generation, 1))

    with capture_logs() as logs:
        assert with_writer(scenario, impatient_engine(0.3)) == Settled(1, 0)
    assert {entry["event"] for entry in logs} == {"leases could not be renewed"}


@pytest.mark.slow
def test_a_hold_is_renewed_while_its_settlement_waits_for_the_database(settings):
    settings.HOLD_LEASE_S, settings.LEASE_RENEW_S, settings.LEDGER_RETRY_LATE_S = 0.3, 0.2, 0.2
    acme, engine = open_workspace(100), CountingEngine()
    engine.engine = impatient_engine(0.2)

    async def scenario(writer):
        hold = hold_of(acme, 10)
        await writer.hold(hold)
        with locked_account(acme.account_id):
            settlement = asyncio.create_task(writer.settle(settle_of(acme, hold.generation, 1)))
            await asyncio.sleep(1)
            del engine.renewals[:]
            await asyncio.sleep(1)
            assert [hold.generation] in engine.renewals
        return await settlement

    assert with_writer(scenario, engine) == Settled(1, 0)


@pytest.mark.parametrize("actual", [-1, MAX_MICROCREDITS + 1])
def test_a_settlement_that_cannot_be_asked_leaves_its_hold_to_the_lease(settings, actual):
    settings.LEASE_RENEW_S = 0.1
    acme, engine = open_workspace(100), CountingEngine()

    async def scenario(writer):
        hold = hold_of(acme, 10)
        await writer.hold(hold)
        with pytest.raises(ValueError, match="a charge is"):
            await writer.settle(settle_of(acme, hold.generation, actual))
        await asyncio.sleep(0)  # a renewal that had begun before is told of
        del engine.renewals[:]
        await asyncio.sleep(0.5)

    with_writer(scenario, engine)
    assert engine.renewals == []


def test_a_hold_that_nobody_waits_for_any_more_is_left_to_its_lease(settings):
    """Who was cancelled settles it; whoever cannot do that, too, must not keep it open for ever."""
    settings.LEASE_RENEW_S = 0.1
    acme, engine = open_workspace(100), CountingEngine()

    async def scenario(writer):
        hold = hold_of(acme, 10)
        asking = asyncio.create_task(writer.hold(hold))
        await engine.began.wait()
        asking.cancel()
        writer.let_go(hold.generation)
        await asyncio.sleep(0.5)

    with_writer(scenario, engine)
    assert Hold.objects.get().state == "open"
    assert engine.renewals == []
