"""Top-ups, grants, refunds and adjustments."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from billing.ledger.reconcile import reconcile
from billing.ledger.transfers import (
    CreditInUse,
    TransferConflict,
    TransferError,
    adjust,
    grant,
    open_account,
    refund,
    top_up,
)
from billing.models import Account, Entry, Workspace
from billing.pricing import MAX_MICROCREDITS
from tests.records import add_charge
from tests.unit.billing.books import hold_of, open_workspace, with_writer

pytestmark = pytest.mark.django_db(transaction=True)

WHY = {"actor": "ada", "reason": "because"}


@pytest.fixture
def workspace():
    workspace = Workspace.objects.create(name="acme")
    open_account(workspace)
    return workspace


def balance(workspace):
    return Account.objects.get(workspace=workspace).posted_microcredits


def test_an_account_is_opened_once(workspace):
    assert open_account(workspace) == open_account(workspace)
    assert sorted(Account.objects.values_list("kind", flat=True)) == ["promo", "revenue", "workspace", "world"]


@pytest.mark.parametrize(
    ("transfer", "amount", "kind", "debit", "credit"),
    [
        (top_up, 50, "top_up", "world", "workspace"),
        (grant, 50, "grant", "promo", "workspace"),
        (adjust, 50, "adjustment", "world", "workspace"),
        (adjust, -50, "adjustment", "workspace", "world"),
    ],
)
def test_a_transfer_is_one_entry(workspace, transfer, amount, kind, debit, credit):
    top_up(workspace, 100, idempotency_key="first", **WHY)
    entry = transfer(workspace, amount, idempotency_key="second", **WHY)
    assert (entry.kind, entry.debit_account.kind, entry.credit_account.kind) == (kind, debit, credit)
    assert (entry.amount_microcredits, entry.actor, entry.reason, entry.expires_at) == (50, "ada", "because", None)
    assert balance(workspace) == 100 + amount
    assert reconcile() == []


@pytest.fixture
def charged(acme):
    """A request of acme that was charged 10."""
    return add_charge(acme, 10)


def give_back(record, amount, key):
    return refund(record.workspace, amount, idempotency_key=key, generation=record.generation, **WHY)


def test_a_refund_comes_from_revenue_and_names_its_request(charged):
    entry = give_back(charged, 4, "a")
    assert (entry.kind, entry.debit_account.kind, entry.generation) == ("refund", "revenue", charged.generation)
    assert give_back(charged, 4, "a") == entry
    with pytest.raises(TransferError, match="of this request can be refunded"):
        give_back(charged, 7, "b")
    give_back(charged, 6, "b")
    assert balance(charged.workspace) == 1000 * 10**6


def test_the_key_of_a_refund_names_no_refund_of_another_request(acme, charged):
    give_back(charged, 4, "a")
    with pytest.raises(TransferConflict):
        give_back(add_charge(acme, 10), 4, "a")


def test_a_refund_of_no_request_or_of_somebody_else_s_is_none(acme, rival):
    other = add_charge(rival, 10)
    for generation in ("", "chatcmpl-unknown", other.generation):
        with pytest.raises(TransferError, match="names the request"):
            refund(acme.workspace, 1, idempotency_key="a", generation=generation, **WHY)


def test_a_grant_may_expire(workspace):
    expires_at = timezone.now() + timedelta(days=30)
    assert grant(workspace, 1, idempotency_key="b", expires_at=expires_at, **WHY).expires_at == expires_at


def test_the_same_transfer_again_is_the_first_entry(workspace):
    first = top_up(workspace, 100, idempotency_key="payment-1", **WHY)
    again = top_up(workspace, 100, idempotency_key="payment-1", actor="webhook", reason="replayed")
    assert again == first
    assert again.reason == "because"
    assert balance(workspace) == 100


def test_a_key_of_another_transfer_is_a_conflict(workspace):
    top_up(workspace, 100, idempotency_key="payment-1", **WHY)
    other = Workspace.objects.create(name="rival")
    open_account(other)
    for transfer, subject, amount in [(top_up, workspace, 99), (grant, workspace, 100), (top_up, other, 100)]:
        with pytest.raises(TransferConflict):
            transfer(subject, amount, idempotency_key="payment-1", **WHY)
    assert (balance(workspace), balance(other)) == (100, 0)
    assert reconcile() == []


def test_a_grant_again_with_another_expiry_is_a_conflict(workspace):
    expires_at = timezone.now() + timedelta(days=30)
    first = grant(workspace, 100, idempotency_key="welcome", expires_at=expires_at, **WHY)
    assert grant(workspace, 100, idempotency_key="welcome", expires_at=expires_at, **WHY) == first
    for other in (None, expires_at + timedelta(microseconds=1)):
        with pytest.raises(TransferConflict):
            grant(workspace, 100, idempotency_key="welcome", expires_at=other, **WHY)
    assert balance(workspace) == 100


def test_many_at_once_with_one_key_make_one_entry(workspace):
    def replay(_):
        try:
            return top_up(workspace, 7, idempotency_key="payment-1", **WHY).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(replay, range(100)))) == 1
    assert balance(workspace) == 7
    assert Entry.objects.count() == 1


def test_a_race_of_two_workspaces_for_one_key_has_one_winner(workspace):
    other = Workspace.objects.create(name="rival")
    open_account(other)

    def attempt(number):
        subject = (workspace, other)[number % 2]
        try:
            top_up(subject, 5, idempotency_key=f"payment-{number // 2}", **WHY)
        except TransferConflict:
            return "conflict"
        else:
            return "made"
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(attempt, range(40)))
    assert outcomes.count("made") == outcomes.count("conflict") == Entry.objects.count() == 20
    assert balance(workspace) + balance(other) == 100
    assert reconcile() == []


@pytest.mark.parametrize("amount", [0, -1, MAX_MICROCREDITS + 1, 2**63, 10**40])
def test_amounts_have_bounds(workspace, amount):
    for transfer in (top_up, grant):
        with pytest.raises(TransferError):
            transfer(workspace, amount, idempotency_key="a", **WHY)
    assert Entry.objects.count() == 0


@pytest.mark.parametrize("amount", [0, MAX_MICROCREDITS + 1, -MAX_MICROCREDITS - 1])
def test_adjustments_have_bounds(workspace, amount):
    with pytest.raises(TransferError):
        adjust(workspace, amount, idempotency_key="a", **WHY)


def test_a_balance_has_a_bound(workspace):
    top_up(workspace, MAX_MICROCREDITS, idempotency_key="a", **WHY)
    with pytest.raises(TransferError, match="9000000000 credits"):
        top_up(workspace, 1, idempotency_key="b", **WHY)
    assert balance(workspace) == MAX_MICROCREDITS


@pytest.mark.parametrize(
    "mandate",
    [
        {"idempotency_key": "", **WHY},
        {"idempotency_key": "usage:chatcmpl-1", **WHY},
        {"idempotency_key": "k" * 256, **WHY},
        {"idempotency_key": "a", "actor": " ", "reason": "because"},
        {"idempotency_key": "a", "actor": "ada", "reason": ""},
        {"idempotency_key": "a", "actor": "ada", "reason": "x" * 501},
    ],
)
def test_a_transfer_needs_a_name_an_actor_and_a_reason(workspace, mandate):
    with pytest.raises(TransferError):
        top_up(workspace, 1, **mandate)
    assert Entry.objects.count() == 0


def test_an_adjustment_leaves_what_is_held():
    acme = open_workspace(100)
    with_writer(lambda writer: writer.hold(hold_of(acme, 70)))
    workspace = Workspace.objects.get(pk=acme.workspace_id)
    with pytest.raises(CreditInUse, match=r"0\.00003 credits are free; 0\.00007 are held"):
        adjust(workspace, -31, idempotency_key="a", **WHY)
    adjust(workspace, -30, idempotency_key="b", **WHY)
    assert balance(workspace) == 70
    assert reconcile() == []
