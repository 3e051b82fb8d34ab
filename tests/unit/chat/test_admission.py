"""Leaving an admission settles it, and tells who may try again after a fault of ours."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from billing.errors import InsufficientCredits
from billing.ledger.writer import LedgerWriter
from billing.models import Account, ApiKey, Budget, Hold, UsageRecord
from billing.pricing import Usage, bound
from chat.admission import admit
from chat.errors import UpstreamError
from chat.meter import BYTES_PER_TOKEN
from chat.outcome import Journal, Payer, Served
from chat.schema.delivery import EndState, Outcome
from chat.schema.quote import STRETCH_TOKENS, StepQuote
from infery_site.errors import NO_RETRY, ApiError
from infery_site.ids import generation_id
from tests.unit.chat.clients import Recorder
from tests.unit.chat.values import PRICES, call, model, target

pytestmark = pytest.mark.django_db(transaction=True)

BOUND_MICROCREDITS = 5_000
HOLD_MICROCREDITS = 50_000
STEP = StepQuote("gpt-test", 7, 121, 100, 1, bound(121, 100, PRICES), HOLD_MICROCREDITS, (), 11)
STREAM = StepQuote("gpt-test", 7, 121, 50_000, 1, bound(121, 50_000, PRICES), bound(121, STRETCH_TOKENS, PRICES), (), 11)


@pytest.fixture
async def ledger():
    writer = LedgerWriter()
    await writer.start()
    yield writer
    await writer.stop()


@pytest.fixture
def admission(ledger, acme):
    """An admission of acme that is not entered yet."""
    step = StepQuote("gpt-test", 7, 10, 10, 1, BOUND_MICROCREDITS, BOUND_MICROCREDITS, (), 10)
    account = Account.objects.get(workspace=acme.workspace)
    payer = Payer(acme.workspace.pk, account.pk, acme.key.pk)
    journal = Journal(msgspec.structs.replace(call(), generation=generation_id()))
    return admit(ledger, payer, journal, step, 90, Recorder())


async def leave(admission, error):
    async with admission:
        assert admission.held_microcredits == BOUND_MICROCREDITS
        raise error


async def assert_voided(status):
    hold, record = await Hold.objects.aget(), await UsageRecord.objects.aget()
    assert (hold.state, hold.settled_microcredits) == ("voided", 0)
    assert (record.status, record.charged_microcredits) == (status, 0)


async def test_a_fault_of_ours_is_told_as_one_that_no_retry_helps(admission):
    with pytest.raises(ApiError) as caught:
        await leave(admission, ValueError("a detail"))
    error = caught.value
    assert (error.status, error.code, error.headers) == (500, "internal_error", (NO_RETRY,))
    assert "detail" not in error.message
    assert isinstance(error.__cause__, ValueError)
    await assert_voided(500)


async def test_a_refusal_passes_as_it_is(admission):
    failure = UpstreamError(upstream_status=500)
    with pytest.raises(UpstreamError) as caught:
        await leave(admission, failure)
    assert caught.value is failure
    assert failure.headers == ()
    await assert_voided(502)


async def leave_with_spoiled_rows(admission, workspace):
    """What is held is taken out of the account behind the ledger's back, so that the settlement breaks a constraint."""
    async with admission:
        await Account.objects.filter(workspace=workspace).aupdate(held_microcredits=0)


async def test_a_settlement_that_is_refused_is_told_as_one_that_no_retry_helps(admission, acme):
    with pytest.raises(ApiError) as caught:
        await leave_with_spoiled_rows(admission, acme.workspace)
    assert (caught.value.status, caught.value.code, caught.value.headers) == (500, "internal_error", (NO_RETRY,))
    assert await UsageRecord.objects.acount() == 0


# What the provider counted beyond what is held


@pytest.fixture
def flowing(ledger, acme):
    """Admissions of a stream whose first stretch is held, and which the local model serves."""
    account = Account.objects.get(workspace=acme.workspace)
    payer = Payer(acme.workspace.pk, account.pk, acme.key.pk)

    def admitted(step=STEP, **fields):
        journal = Journal(msgspec.structs.replace(call(), generation=generation_id()))
        bounds = msgspec.structs.replace(step, **fields)
        return admit(ledger, payer, journal, bounds, 90, Recorder()), journal, Served(model(), target(), 0, (), bounds)

    return admitted


async def end_with(admitted, usage, source="reported"):
    """Leave an admission whose stream used so much; the amounts of its holds, in order, and its record."""
    admission, journal, served = admitted
    async with admission:
        journal.served = served
        journal.outcome = Outcome(EndState.DONE, 200, usage, source)
    held = [hold.amount_microcredits async for hold in Hold.objects.order_by("sequence")]
    return held, await UsageRecord.objects.aget()


def left_with(workspace, left_microcredits):
    """All but so much of the credit is held by somebody else."""
    account = Account.objects.get(workspace=workspace)
    account.held_microcredits = account.posted_microcredits - left_microcredits
    account.save()


async def test_what_is_held_pays_without_another_operation(flowing):
    held, record = await end_with(flowing(), Usage(10, 20))
    assert held == [HOLD_MICROCREDITS]
    assert (record.charged_microcredits, record.overrun_microcredits) == (10 * 250 + 20 * 1000, 0)


async def test_more_tokens_than_the_bytes_told_are_held_before_they_are_charged(flowing):
    held, record = await end_with(flowing(), Usage(100, 90))
    cost = 100 * 250 + 90 * 1000
    assert held == [HOLD_MICROCREDITS, cost - HOLD_MICROCREDITS]
    assert (record.charged_microcredits, record.overrun_microcredits) == (cost, 0)


async def test_nothing_is_held_beyond_the_bound_of_the_step(flowing):
    held, record = await end_with(flowing(bound_microcredits=60_000), Usage(100, 90))
    assert held == [HOLD_MICROCREDITS, 60_000 - HOLD_MICROCREDITS]
    assert (record.charged_microcredits, record.overrun_microcredits) == (60_000, 55_000)


async def test_what_was_held_for_a_dearer_step_pays_no_more_than_the_bound_of_the_one_that_served(flowing):
    admission, journal, served = flowing()
    bounds = msgspec.structs.replace(served.bounds, bound_microcredits=30_000)
    held, record = await end_with((admission, journal, msgspec.structs.replace(served, bounds=bounds)), Usage(122, 9))
    assert held == [HOLD_MICROCREDITS]
    assert (record.charged_microcredits, record.overrun_microcredits) == (30_000, 122 * 250 + 9 * 1000 - 30_000)


async def test_what_a_provider_found_in_a_document_is_held_beyond_the_bound(flowing):
    """However few pages it says it has."""
    held, record = await end_with(flowing(bound_microcredits=60_000, prompt_tokens_beyond=1), Usage(100, 90))
    assert held == [HOLD_MICROCREDITS, 115_000 - HOLD_MICROCREDITS]
    assert (record.charged_microcredits, record.overrun_microcredits) == (115_000, 0)


async def test_a_refusal_leaves_the_rest_to_us(flowing, acme):
    admission, journal, served = flowing()
    await sync_to_async(left_with)(acme.workspace, HOLD_MICROCREDITS)
    held, record = await end_with((admission, journal, served), Usage(100, 90))
    assert held == [HOLD_MICROCREDITS]
    assert (record.charged_microcredits, record.overrun_microcredits) == (HOLD_MICROCREDITS, 65_000)


async def test_a_revoked_key_leaves_the_rest_to_us_and_is_settled(flowing, acme):
    admission, journal, served = flowing()
    async with admission:
        await ApiKey.objects.filter(pk=acme.key.pk).aupdate(revoked_at=timezone.now())
        journal.served = served
        journal.outcome = Outcome(EndState.REVOKED, 200, Usage(100, 90), "reported")
    record = await UsageRecord.objects.aget()
    assert (record.charged_microcredits, record.overrun_microcredits) == (HOLD_MICROCREDITS, 65_000)


async def test_an_estimate_is_never_held_for(flowing):
    held, _ = await end_with(flowing(), Usage(100, 90), "estimated")
    assert held == [HOLD_MICROCREDITS]


# Faults of ours


async def test_a_settlement_that_cannot_be_made_is_told_and_its_hold_is_not_renewed_for_ever(flowing, ledger, settings):
    settings.LEASE_RENEW_S = 0.1
    admission, journal, _ = flowing()
    with pytest.raises(ApiError) as caught:
        async with admission:
            journal.outcome = Outcome("no end state", 200)
    assert (caught.value.status, caught.value.headers) == (500, (NO_RETRY,))
    before = (await Hold.objects.aget()).lease_expires_at
    await ledger.stop()
    await ledger.start()
    await asyncio.sleep(0.5)
    assert (await Hold.objects.aget()).lease_expires_at == before


# The fare


async def test_credit_that_came_back_carries_a_stream_on(flowing, acme):
    admission, _, served = flowing(STREAM)
    await sync_to_async(left_with)(acme.workspace, STREAM.hold_microcredits)
    async with admission:
        fare = admission.metered(served.bounds, PRICES)
        half, near_end, past_end = (tokens * BYTES_PER_TOKEN for tokens in (1_100, 1_900, 2_100))
        assert await fare.pay(half)
        assert isinstance(admission.refusal, InsufficientCredits)
        await sync_to_async(left_with)(acme.workspace, 4 * STREAM.bound_microcredits)
        assert await fare.pay(near_end)
        assert await fare.pay(past_end)
    assert await Hold.objects.acount() == 2


async def test_a_budget_that_is_spent_says_so(flowing, acme):
    await Budget.objects.acreate(scope="key", scope_id=acme.key.pk, limit_microcredits=STREAM.hold_microcredits)
    admission, _, served = flowing(STREAM)
    async with admission:
        fare = admission.metered(served.bounds, PRICES)
        assert not await fare.pay(2_100 * BYTES_PER_TOKEN)
        assert 2_000 * BYTES_PER_TOKEN < fare.paid_bytes() < 2_100 * BYTES_PER_TOKEN
    assert admission.refusal is not None
    assert admission.refusal.code == "key_budget_exceeded"
