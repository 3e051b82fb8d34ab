"""Leaving an admission settles it, and tells who may try again after a fault of ours."""

from __future__ import annotations

import msgspec
import pytest

from billing.ledger.writer import LedgerWriter
from billing.models import Account, Hold, UsageRecord
from chat.admission import admit
from chat.errors import UpstreamError
from chat.outcome import Journal, Payer
from chat.schema.quote import StepQuote
from infery_site.errors import NO_RETRY, ApiError
from infery_site.ids import generation_id
from tests.unit.chat.values import call

pytestmark = pytest.mark.django_db(transaction=True)

BOUND_MICROCREDITS = 5_000


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
    return admit(ledger, payer, journal, step, 90)


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
