"""Credit that expires: one entry for what is left of it, never of what a running request holds, never twice."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from structlog.testing import capture_logs

from billing.expiry import MOST_ACCOUNTS, expire_credits
from billing.ledger.reconcile import reconcile
from billing.ledger.transfers import adjust, grant, refund
from billing.models import Account, CreditLot, Entry, Hold, Workspace
from infery_site.ids import generation_id
from tests.unit.billing.books import hold_of, open_workspace, settle_of, with_writer

pytestmark = pytest.mark.django_db(transaction=True)

# Long ago, so that holds and entries of now are none of it unless they are dated so.
END = datetime(2026, 3, 1, tzinfo=UTC)
BEFORE, AFTER = END - timedelta(hours=1), END + timedelta(hours=1)
WHY = {"actor": "ada", "reason": "welcome"}


def give(subject, amount, expires_at=END):
    workspace = Workspace.objects.get(pk=subject.workspace_id)
    return grant(workspace, amount, idempotency_key=generation_id(), expires_at=expires_at, **WHY)


def request(subject, amount, admitted_at):
    """A running request that was admitted then."""
    hold = hold_of(subject, amount)
    with_writer(lambda writer: writer.hold(hold))
    Hold.objects.filter(generation=hold.generation).update(created_at=admitted_at)
    return hold.generation


def settle(subject, generation, cost):
    with_writer(lambda writer: writer.settle(settle_of(subject, generation, cost)))


def spend(subject, cost, admitted_at):
    settle(subject, request(subject, cost, admitted_at), cost)


def left():
    """Of every lot, as it was written last."""
    return list(CreditLot.objects.order_by("pk").values_list("left_microcredits", flat=True))


def expiries():
    return list(Entry.objects.filter(kind="expiry").order_by("pk").values_list("amount_microcredits", flat=True))


def posted(subject):
    return subject.account().posted_microcredits


def test_what_is_left_expires_as_one_entry():
    acme = open_workspace(100)
    lot = give(acme, 40)
    assert expire_credits(BEFORE) == 0
    assert expire_credits(END) == 1
    entry = Entry.objects.get(kind="expiry")
    assert (entry.amount_microcredits, entry.debit_account_id, entry.credit_account.kind) == (40, acme.account_id, "promo")
    assert (entry.idempotency_key, entry.actor) == (f"expiry:{lot.pk}:40", "housekeeping")
    assert entry.reason == f"Grant of {lot.created_at:%Y-%m-%d}: expired"
    assert (left(), posted(acme)) == ([100, 0], 100)
    assert expire_credits(AFTER) == 0
    assert reconcile() == []


def test_what_was_spent_in_time_does_not_expire():
    acme = open_workspace(100)
    give(acme, 40)
    spend(acme, 30, BEFORE)
    expire_credits(AFTER)
    assert (expiries(), left(), posted(acme)) == ([10], [100, 0], 100)
    assert reconcile() == []


def test_what_was_spent_afterwards_is_not_of_the_expired_credit():
    """Housekeeping was away for a while, and requests went on."""
    acme = open_workspace(100)
    give(acme, 40)
    spend(acme, 30, BEFORE)
    spend(acme, 25, END)
    expire_credits(AFTER)
    assert (expiries(), left(), posted(acme)) == ([10], [75, 0], 75)
    assert reconcile() == []


def test_expired_credit_that_was_spent_for_want_of_other_is_gone():
    acme = open_workspace()
    give(acme, 40)
    spend(acme, 25, END)
    expire_credits(AFTER)
    assert (expiries(), left(), posted(acme)) == ([15], [0], 0)
    assert reconcile() == []


def test_a_lot_that_was_spent_leaves_no_entry_and_is_not_looked_at_again():
    acme = open_workspace(100)
    give(acme, 40)
    spend(acme, 55, BEFORE)
    assert expire_credits(AFTER) == 0
    assert (expiries(), left(), posted(acme)) == ([], [85, 0], 85)
    assert not CreditLot.objects.filter(expires_at__lte=AFTER, left_microcredits__gt=0).exists()
    assert reconcile() == []


def test_what_a_running_request_holds_stays_until_it_is_settled():
    acme = open_workspace()
    give(acme, 100)
    generation = request(acme, 60, BEFORE)
    expire_credits(END)
    assert (expiries(), posted(acme), acme.account().held_microcredits) == ([40], 60, 60)
    assert expire_credits(AFTER) == 0
    assert reconcile() == []
    settle(acme, generation, 50)
    assert (posted(acme), reconcile()) == (10, [])
    assert expire_credits(AFTER) == 1
    assert (expiries(), left(), posted(acme)) == ([40, 10], [0], 0)
    assert expire_credits(AFTER) == 0
    assert reconcile() == []


def test_a_request_is_paid_from_the_credit_that_expired_while_it_ran():
    """It does not matter on which side of the pass it is settled, nor what others cost meanwhile."""
    acme = open_workspace(100)
    give(acme, 40)
    early, late = request(acme, 15, BEFORE), request(acme, 25, BEFORE)
    settle(acme, early, 15)
    expire_credits(END)
    spend(acme, 30, AFTER)
    settle(acme, late, 20)
    expire_credits(AFTER)
    assert (expiries(), left(), posted(acme)) == ([5], [70, 0], 70)
    assert reconcile() == []


def test_what_others_cost_before_a_pass_is_not_counted_again_in_the_next():
    acme = open_workspace(100)
    give(acme, 40)
    generation = request(acme, 30, BEFORE)
    spend(acme, 25, AFTER)
    expire_credits(AFTER)
    settle(acme, generation, 30)
    assert (expire_credits(AFTER), expiries(), left(), posted(acme)) == (0, [10], [75, 0], 75)
    assert reconcile() == []


def test_a_later_hold_of_the_same_request_counts_with_its_first():
    acme = open_workspace(100)
    give(acme, 100)
    generation = request(acme, 30, BEFORE)
    with_writer(lambda writer: writer.hold(hold_of(acme, 30, generation=generation, sequence=2)))
    expire_credits(END)
    assert expiries() == [40]
    settle(acme, generation, 60)
    assert (expire_credits(AFTER), left(), posted(acme)) == (0, [100, 0], 100)
    assert reconcile() == []


def test_every_lot_expires_at_its_own_time_and_first_to_expire_is_first_to_be_spent():
    acme = open_workspace(100)
    give(acme, 40, END + timedelta(days=1))
    give(acme, 30, END)
    give(acme, 20, END)
    spend(acme, 35, BEFORE)
    expire_credits(END)
    assert (expiries(), left()) == ([15], [100, 40, 0, 0])
    expire_credits(END + timedelta(days=1))
    assert (expiries(), left(), posted(acme)) == ([15, 40], [100, 0, 0, 0], 100)
    assert reconcile() == []


def test_new_credit_does_not_pay_for_what_was_spent_before_it():
    """A lot that expires earlier comes first, but only from when it is there."""
    acme = open_workspace()
    give(acme, 100, END + timedelta(days=1))
    spend(acme, 60, BEFORE)
    give(acme, 50, END)
    assert left() == [40, 50]
    expire_credits(END)
    assert (expiries(), left()) == ([50], [40, 0])
    assert reconcile() == []


def test_a_correction_downwards_takes_what_expires_first():
    acme = open_workspace(100)
    workspace = Workspace.objects.get(pk=acme.workspace_id)
    give(acme, 40, datetime(2999, 1, 1, tzinfo=UTC))
    adjust(workspace, -50, idempotency_key="down", **WHY)
    assert left() == [90, 0]
    generation = request(acme, 10, BEFORE)
    settle(acme, generation, 10)
    refund(workspace, 7, idempotency_key="back", generation=generation, **WHY)
    adjust(workspace, 5, idempotency_key="up", **WHY)
    assert left() == [80, 0, 7, 5]
    assert reconcile() == []


def test_passes_side_by_side_book_once():
    acme, rival = open_workspace(10), open_workspace(10, name="rival")
    for subject in (acme, rival):
        for amount in (5, 6, 7):
            give(subject, amount)

    def one_pass(_):
        try:
            return expire_credits(AFTER)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(one_pass, range(8))) == 6
    assert sorted(expiries()) == [5, 5, 6, 6, 7, 7]
    assert (posted(acme), posted(rival)) == (10, 10)
    assert reconcile() == []


def test_an_account_that_is_not_in_order_keeps_no_other_from_its_turn():
    acme, rival = open_workspace(10), open_workspace(10, name="rival")
    lot = give(acme, 5)
    give(rival, 5, END + timedelta(minutes=1))
    # Somebody took the name of the entry to come.
    world = Account.objects.get(kind="world")
    promo = Account.objects.get(kind="promo")
    Entry.objects.create(
        debit_account=world,
        credit_account=promo,
        amount_microcredits=1,
        kind="adjustment",
        idempotency_key=f"expiry:{lot.pk}:5",
    )
    with capture_logs() as logs:
        assert expire_credits(AFTER) == 1
    assert [entry["account"] for entry in logs if entry["log_level"] == "error"] == [acme.account_id]
    assert (posted(acme), posted(rival)) == (15, 10)
    assert reconcile() == []


def test_credit_that_never_expires_is_never_looked_at(django_assert_num_queries):
    open_workspace(100)
    with django_assert_num_queries(1):
        assert expire_credits(datetime(2999, 1, 1, tzinfo=UTC)) == 0


def give_many(subject, count, expires_at):
    """Grants of one microcredit, one a second."""
    promo = Account.objects.get(kind="promo")
    entries = Entry.objects.bulk_create(
        Entry(
            debit_account=promo,
            credit_account_id=subject.account_id,
            amount_microcredits=1,
            kind="grant",
            idempotency_key=generation_id(),
            expires_at=expires_at + timedelta(seconds=number),
            **WHY,
        )
        for number in range(count)
    )
    CreditLot.objects.bulk_create(
        CreditLot(entry=entry, account_id=subject.account_id, expires_at=entry.expires_at, left_microcredits=1)
        for entry in entries
    )
    newest = Entry.objects.latest("pk").pk
    Account.objects.filter(pk=subject.account_id).update(posted_microcredits=count, lots_as_of_entry=newest)


def test_workspaces_that_have_to_wait_keep_no_other_from_its_turn():
    """However much they have of what cannot be booked yet."""
    acme, rival = open_workspace(), open_workspace(name="rival")
    give_many(acme, MOST_ACCOUNTS + 1, BEFORE)
    give(rival, 10)
    request(acme, MOST_ACCOUNTS + 1, BEFORE)
    assert expire_credits(AFTER) == 1
    assert (posted(acme), posted(rival)) == (MOST_ACCOUNTS + 1, 0)
    assert reconcile() == []
