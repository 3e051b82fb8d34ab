"""The ledger on the database of the run: settlements, refusals, budgets, notes."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.errors import BudgetExceeded, ExpiredApiKey, InsufficientCredits, InvalidApiKey, WorkspaceSuspended
from billing.ledger.operations import Held, Settled
from billing.ledger.reconcile import reconcile
from billing.models import Account, ApiKey, Budget, Entry, Hold, RequestTrace, UsageRecord, Workspace
from billing.pricing import MAX_MICROCREDITS
from infery_site.errors import ApiError
from infery_site.ids import generation_id
from tests.unit.billing.books import (
    hold_of,
    new_budget,
    note_of,
    open_workspace,
    settle_of,
    with_writer,
)

pytestmark = pytest.mark.django_db(transaction=True)


# Settlements


def test_a_settlement_leaves_entry_record_lines_and_trace():
    acme = open_workspace(1000)
    hold = hold_of(acme, 300)

    async def scenario(writer):
        assert await writer.hold(hold) == Held(300, 700)
        settlement = settle_of(acme, hold.generation, 120, finish_reason="stop", end_user="ada \u00e4\u4f60")
        assert await writer.settle(settlement) == Settled(120, 0)

    before = timezone.now()
    with_writer(scenario)
    row = Hold.objects.get()
    assert (row.state, row.settled_microcredits, row.usage_source, row.budget_ids) == ("settled", 120, "reported", [])
    assert row.lease_expires_at - row.created_at == timedelta(seconds=90)
    assert before - timedelta(seconds=1) <= row.created_at <= row.closed_at <= timezone.now() + timedelta(seconds=1)
    entry = Entry.objects.get(kind="usage")
    assert (entry.debit_account_id, entry.credit_account.kind, entry.amount_microcredits) == (acme.account_id, "revenue", 120)
    assert (entry.idempotency_key, entry.actor, entry.hold) == (f"usage:{hold.generation}", "gateway", row)
    record = UsageRecord.objects.get()
    assert (record.charged_microcredits, record.overrun_microcredits, record.status) == (120, 0, 200)
    assert (record.model_used, record.prompt_tokens, record.completion_tokens) == ("gpt-4o", 3, 2)
    assert (record.is_stream, record.finish_reason, record.first_token_ms) == (False, "stop", None)
    assert record.end_user == "ada \u00e4\u4f60"
    assert record.lines == [
        {
            "kind": "output",
            "quantity": 1,
            "unit": "million_tokens",
            "unit_price_microcredits": 120,
            "amount_microcredits": 120,
        }
    ]
    trace = RequestTrace.objects.get()
    assert (trace.attempts, trace.adaptations) == ([{"status": 200}], ["clamped=max_tokens:9"])
    assert trace.timings_ms == {"total": 12}
    account = acme.account()
    assert (account.posted_microcredits, account.held_microcredits) == (880, 0)
    assert reconcile() == []


def test_further_holds_are_settled_together():
    acme = open_workspace(1000)
    first = hold_of(acme, 100)
    second, third = (hold_of(acme, 100, generation=first.generation, sequence=sequence) for sequence in (2, 3))

    async def scenario(writer):
        for hold in (first, second, third):
            await writer.hold(hold)
        return await writer.settle(settle_of(acme, first.generation, 150))

    assert with_writer(scenario) == Settled(150, 0)
    closed = Hold.objects.order_by("sequence").values_list("state", "settled_microcredits")
    assert list(closed) == [("settled", 100), ("settled", 50), ("voided", 0)]
    assert reconcile() == []


def test_an_overrun_is_recorded_and_not_charged():
    acme = open_workspace(100)
    hold = hold_of(acme, 60)

    async def scenario(writer):
        await writer.hold(hold)
        return await writer.settle(settle_of(acme, hold.generation, 90))

    assert with_writer(scenario) == Settled(60, 30)
    record = UsageRecord.objects.get()
    assert (record.charged_microcredits, record.overrun_microcredits) == (60, 30)
    assert record.lines[-1]["amount_microcredits"] == -30
    assert Hold.objects.get().overrun_microcredits == 30
    assert reconcile() == []


def test_a_settlement_after_a_void_changes_nothing():
    acme = open_workspace(100)
    hold = hold_of(acme, 60)

    async def scenario(writer):
        await writer.hold(hold)
        await writer.settle(settle_of(acme, hold.generation, 0, status=502))
        return await writer.settle(settle_of(acme, hold.generation, 50))

    assert with_writer(scenario) == Settled(0, 0)
    assert acme.account().posted_microcredits == 100
    assert UsageRecord.objects.get().status == 502
    assert reconcile() == []


def test_an_expired_hold_cannot_be_charged():
    acme = open_workspace(100)
    hold = hold_of(acme, 60)
    with_writer(lambda writer: writer.hold(hold))
    Hold.objects.update(state="expired", closed_at=timezone.now())
    Account.objects.filter(pk=acme.account_id).update(held_microcredits=0)
    assert with_writer(lambda writer: writer.settle(settle_of(acme, hold.generation, 50))) == Settled(0, 50)
    assert reconcile() == []


def test_the_largest_amounts_are_kept_exactly():
    acme = open_workspace(MAX_MICROCREDITS)
    hold = hold_of(acme, MAX_MICROCREDITS)

    async def scenario(writer):
        await writer.hold(hold)
        await writer.settle(settle_of(acme, hold.generation, MAX_MICROCREDITS))

    with_writer(scenario)
    assert Entry.objects.get(kind="usage").amount_microcredits == MAX_MICROCREDITS
    assert acme.account().posted_microcredits == 0
    assert reconcile() == []


# Refusals in the hold itself


def refusal_of(hold):
    with pytest.raises(ApiError) as refusal:
        with_writer(lambda writer: writer.hold(hold))
    assert Hold.objects.count() == 0
    return refusal.value


def test_a_revoked_key_holds_nothing():
    acme = open_workspace(100)
    ApiKey.objects.update(revoked_at=timezone.now())
    assert isinstance(refusal_of(hold_of(acme, 1)), InvalidApiKey)
    assert isinstance(refusal_of(hold_of(acme, 0)), InvalidApiKey)


def test_an_expired_key_holds_nothing():
    acme = open_workspace(100)
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert isinstance(refusal_of(hold_of(acme, 1)), ExpiredApiKey)


def test_a_key_that_expires_later_holds():
    acme = open_workspace(100)
    ApiKey.objects.update(expires_at=timezone.now() + timedelta(seconds=30))
    assert with_writer(lambda writer: writer.hold(hold_of(acme, 1))) == Held(1, 99)


def test_a_suspended_workspace_holds_nothing():
    acme = open_workspace(100)
    Workspace.objects.update(state="suspended")
    assert isinstance(refusal_of(hold_of(acme, 1)), WorkspaceSuspended)


def test_the_key_of_another_workspace_holds_nothing():
    acme, rival = open_workspace(100), open_workspace(100, name="rival")
    assert isinstance(refusal_of(hold_of(acme._replace(api_key_id=rival.api_key_id), 1)), InvalidApiKey)
    assert isinstance(refusal_of(hold_of(acme._replace(account_id=rival.account_id), 1)), InvalidApiKey)


def test_a_refusal_names_what_is_needed_held_and_available():
    acme = open_workspace(2_500_000)
    with_writer(lambda writer: writer.hold(hold_of(acme, 2_000_000, generation="chatcmpl-first")))
    with pytest.raises(InsufficientCredits) as refusal:
        with_writer(lambda writer: writer.hold(hold_of(acme, 600_000)))
    assert refusal.value.available_microcredits == 500_000
    assert "needs up to 0.6 credits; 0.5 are available and 2 are held" in refusal.value.message


def test_more_than_the_ledger_can_count_is_refused():
    acme = open_workspace(100)
    assert isinstance(refusal_of(hold_of(acme, 2**80)), InsufficientCredits)


def test_a_spent_budget_names_its_scope_and_what_is_left():
    acme = open_workspace(100)
    new_budget("key", acme.api_key_id, 10, spent_microcredits=4)
    error = refusal_of(hold_of(acme, 7))
    assert isinstance(error, BudgetExceeded)
    assert "budget of this key is 0.00001 credits, of which 0.000006 are left" in error.message


# Budgets


def test_a_budgets_period_rolls_over_in_the_hold():
    acme = open_workspace(1000)
    budget = new_budget("key", acme.api_key_id, 10, period="day")

    async def spend(writer, amount, actual):
        hold = hold_of(acme, amount)
        await writer.hold(hold)
        await writer.settle(settle_of(acme, hold.generation, actual))

    with_writer(lambda writer: spend(writer, 10, 10))
    Budget.objects.update(period_started_at=timezone.now() - timedelta(days=40))
    with_writer(lambda writer: spend(writer, 8, 6))
    budget.refresh_from_db()
    assert (budget.spent_microcredits, budget.held_microcredits, budget.spent_before_microcredits) == (6, 0, 10)
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    assert budget.period_started_at in {midnight, midnight - timedelta(days=1)}
    assert reconcile() == []


def test_a_budget_that_never_ends_keeps_what_was_spent():
    acme = open_workspace(1000)
    long_ago = timezone.now() - timedelta(days=4000)
    new_budget("workspace", acme.workspace_id, 10, spent_microcredits=9, period_started_at=long_ago, period="never")
    assert isinstance(refusal_of(hold_of(acme, 2)), BudgetExceeded)


# Notes


def test_the_record_of_a_refused_request_is_kept_once():
    acme = open_workspace(0)
    generation = generation_id()

    async def scenario(writer):
        writer.note(note_of(acme, generation, error_code="model_not_found"))
        writer.note(note_of(acme, generation))

    with_writer(scenario)
    record = UsageRecord.objects.get()
    assert (record.status, record.error_code, record.lines, record.charged_microcredits) == (404, "model_not_found", [], 0)
    assert reconcile() == []
