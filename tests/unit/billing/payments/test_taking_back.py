"""Credit of payments that were refunded or disputed: taken back once, whatever is told first, as far as it was not spent."""

import itertools

import pytest
from django.db import connection

from billing.housekeeping import tidy
from billing.ledger.reconcile import reconcile
from billing.models import Account, Entry, Payment
from billing.payments import booking
from infery_site.patience import short_lock_waits
from tests.fakes.stripe_api import event
from tests.unit.billing.books import Subject, admit, settle_of, with_writer
from tests.unit.billing.clocks import Clocks
from tests.unit.billing.engines import locked_account
from tests.unit.billing.payments.paying import (
    CREDIT,
    add,
    balance,
    begun,
    dispute,
    paid,
    refund,
    run_tasks,
    spend,
    tell,
    tell_at_once,
)

pytestmark = pytest.mark.django_db(transaction=True)


# What is told when it happens


def test_refunds_take_their_credit_back_once(acme, stripe):
    payment = paid(stripe, acme)
    for units in (300, 300, 1000, 300, 1000):
        assert tell(refund(payment, units)).status_code == 200
    payment.refresh_from_db()
    assert (balance(acme), payment.refunded_units, payment.taken_microcredits) == (1000, 1000, 1000 * CREDIT)
    assert [entry.amount_microcredits // CREDIT for entry in Entry.objects.filter(kind="adjustment").order_by("pk")] == [
        300,
        700,
    ]
    assert reconcile() == []


def test_what_was_spent_already_cannot_be_taken_back(broke, stripe):
    payment = paid(stripe, broke)
    spend(broke, 900)
    tell(refund(payment, 1000))
    payment.refresh_from_db()
    assert (balance(broke), payment.taken_microcredits) == (0, 100 * CREDIT)


def test_a_dispute_takes_credit_and_gives_it_again_when_it_is_won(acme, stripe):
    payment = paid(stripe, acme)
    tell(dispute(payment, "needs_response"))
    tell(dispute(payment, "needs_response"))
    assert balance(acme) == 1000
    tell(dispute(payment, "won"))
    tell(dispute(payment, "won"))
    assert balance(acme) == 2000
    lost = paid(stripe, acme)
    tell(dispute(lost, "needs_response"))
    tell(dispute(lost, "lost"))
    assert balance(acme) == 2000


# Told in another order


@pytest.mark.parametrize(
    ("history", "left"),
    [
        ([("needs_response", 0), ("won", 5)], 2000),
        ([("needs_response", 0), ("won", 0)], 2000),
        ([("needs_response", 0), ("lost", 5)], 1000),
        ([("warning_needs_response", 0), ("warning_closed", 5)], 2000),
        ([("needs_response", 0), ("lost", 5), ("won", 9)], 2000),
    ],
    ids=["won", "won within a second", "lost", "inquiry", "won after an appeal"],
)
def test_a_dispute_ends_as_it_was_told_last_in_whatever_order_it_is_told(acme, stripe, history, left):
    for turn in itertools.permutations(history):
        payment = paid(stripe, acme)
        for status, after_s in (*turn, turn[0]):
            assert tell(dispute(payment, status, created=1_800_000_000 + after_s)).status_code == 200
        payment.refresh_from_db()
        assert (balance(acme), payment.disputed_units) == (left, 2000 - left)
        if left > 1000:
            spend(acme, left - 1000)
    assert reconcile() == []


def test_two_disputes_of_one_payment_add_up(acme, stripe):
    payment = paid(stripe, acme)
    tell(dispute(payment, "needs_response", 300, name="dp_1"))
    tell(dispute(payment, "lost", 500, name="dp_2"))
    assert balance(acme) == 1200
    tell(dispute(payment, "needs_response", 500, name="dp_2", created=1))
    tell(dispute(payment, "won", 300, name="dp_1"))
    assert balance(acme) == 1500


def told_too_early(payment, *, is_dispute):
    """What Stripe says of a payment whose settlement nobody has told yet, by its own id of it."""
    intent_id = f"pi_{payment.session_id}"
    if is_dispute:
        told = {"id": "dp_1", "payment_intent": intent_id, "amount": 400, "status": "needs_response"}
        return event("charge.dispute.created", told)
    # Of what our payment is named the charge has a copy, the dispute has none.
    named = {"payment": payment.public_id}
    return event("charge.refunded", {"payment_intent": intent_id, "amount_refunded": 400, "metadata": named})


@pytest.mark.parametrize("is_dispute", [False, True], ids=["refund", "dispute"])
@pytest.mark.parametrize("is_looked_up", [False, True], ids=["told", "looked up"])
def test_what_is_told_before_the_payment_counts_when_it_is_settled(acme, stripe, is_dispute, is_looked_up):
    payment = begun(acme)
    settling = stripe.paid(stripe.sessions[payment.session_id])
    for _ in range(2):
        assert tell(told_too_early(payment, is_dispute=is_dispute)).status_code == 200
    assert balance(acme) == 1000
    if is_looked_up:
        run_tasks()
    else:
        for told in settling * 2:
            assert tell(told).status_code == 200
    payment.refresh_from_db()
    assert (balance(acme), payment.state, payment.taken_microcredits) == (1600, "paid", 400 * CREDIT)
    assert [entry.amount_microcredits // CREDIT for entry in Entry.objects.filter(kind="adjustment")] == [400]
    assert reconcile() == []


def test_a_refund_and_the_settlement_at_once_come_to_the_same(acme, stripe):
    payment = begun(acme)
    told = [told_too_early(payment, is_dispute=False), *stripe.paid(stripe.sessions[payment.session_id])]
    tell_at_once(told * 2)
    assert balance(acme) == 1600
    assert reconcile() == []


def test_whose_a_dispute_is_can_be_asked_later(acme, stripe):
    """Nothing is lost while Stripe does not answer: it tells again what was not taken."""
    payment = begun(acme)
    settling = stripe.paid(stripe.sessions[payment.session_id])
    stripe.is_away = True
    response = tell(told_too_early(payment, is_dispute=True))
    assert (response.status_code, response.json()["error"]["code"]) == (503, "payment_service_unavailable")
    assert tell(told_too_early(payment, is_dispute=False)).status_code == 200
    stripe.is_away = False
    assert tell(told_too_early(payment, is_dispute=True)).status_code == 200
    tell(settling[0])
    assert balance(acme) == 1200
    stripe.is_away = True
    assert tell(dispute(Payment.objects.get(), "won")).status_code == 200
    assert balance(acme) == 1600


def test_disputes_of_another_product_are_asked_for_and_passed_over(acme, stripe):
    """Of one that names nothing of ours, of one that names what nobody knows here, and of another account of Stripe's."""
    begun(acme)
    stripe.intents = {
        "pi_other": {"id": "pi_other", "object": "payment_intent", "metadata": {}},
        "pi_named": {"id": "pi_named", "object": "payment_intent", "metadata": {"payment": "pay_of_a_shop"}},
    }
    stripe.calls.clear()
    for intent_id in ("pi_other", "pi_named", "pi_of_another_account", None):
        told = {"id": "dp_1", "payment_intent": intent_id, "amount": 1000, "status": "lost"}
        assert tell(event("charge.dispute.created", told)).status_code == 200
    assert [call for call, _ in stripe.calls] == [
        f"GET /v1/payment_intents/{name}" for name in ("pi_other", "pi_named", "pi_of_another_account")
    ]
    assert list(Payment.objects.values_list("state", "disputed_units")) == [("open", 0)]


# What requests hold just then


def in_flight(world, credits):
    """A request that holds so many credits; how to end it, with what it cost."""
    account = Account.objects.get(workspace=world.workspace)
    subject = Subject(world.workspace.pk, account.pk, world.key.pk)
    (generation,) = with_writer(lambda writer: admit(writer, subject, [credits * CREDIT]))
    return lambda cost: with_writer(lambda writer: writer.settle(settle_of(subject, generation, cost * CREDIT)))


def owed(payment):
    payment.refresh_from_db()
    return payment.owed_microcredits // CREDIT, payment.taken_microcredits // CREDIT


@pytest.mark.parametrize(("cost", "taken"), [(0, 1000), (200, 800), (600, 400)])
def test_what_requests_held_is_taken_when_they_leave_it(broke, stripe, cost, taken):
    """What they cost is spent, and is not taken from what comes in later."""
    payment = paid(stripe, broke)
    end = in_flight(broke, 600)
    tell(refund(payment, 1000))
    assert (owed(payment), balance(broke)) == ((600, 400), 600)
    assert booking.take_owed() == 0
    end(cost)
    assert booking.take_owed() == (taken > 400)
    assert (owed(payment), balance(broke)) == ((0, taken), 0)
    add(broke, 1000)
    assert booking.take_owed() == 0
    tell(refund(payment, 1000))
    assert (owed(payment), balance(broke)) == ((0, taken), 1000)
    assert reconcile() == []


@pytest.mark.parametrize(("cost", "taken"), [(0, 1000), (200, 800), (600, 400)])
def test_what_comes_in_while_it_is_held_is_not_taken_in_its_place(broke, stripe, cost, taken):
    payment = paid(stripe, broke)
    end = in_flight(broke, 600)
    tell(refund(payment, 1000))
    add(broke, 700)
    assert booking.take_owed() == 0
    tell(refund(payment, 1000))
    assert (owed(payment), balance(broke)) == ((600, 400), 1300)
    end(cost)
    booking.take_owed()
    assert (owed(payment), balance(broke)) == ((0, taken), 700)


def test_what_is_held_again_and_again_is_owed_until_it_is_spent(broke, stripe):
    payment = paid(stripe, broke)
    first = in_flight(broke, 1000)
    tell(refund(payment, 1000))
    first(300)
    second = in_flight(broke, 700)
    assert (booking.take_owed(), owed(payment)) == (0, (700, 0))
    second(600)
    third = in_flight(broke, 60)
    assert (booking.take_owed(), owed(payment)) == (1, (60, 40))
    third(60)
    assert (booking.take_owed(), owed(payment), balance(broke)) == (0, (0, 40), 0)


def test_a_dispute_that_is_won_is_owed_no_more(broke, stripe):
    payment = paid(stripe, broke)
    end = in_flight(broke, 600)
    tell(dispute(payment, "needs_response"))
    assert owed(payment) == (600, 400)
    tell(dispute(payment, "won"))
    assert (owed(payment), balance(broke)) == ((0, 0), 1000)
    end(0)
    assert (booking.take_owed(), balance(broke)) == (0, 1000)


def test_a_second_refund_adds_to_what_is_owed(broke, stripe):
    payment = paid(stripe, broke)
    end = in_flight(broke, 900)
    tell(refund(payment, 400))
    tell(refund(payment, 600))
    assert owed(payment) == (500, 100)
    end(0)
    assert (booking.take_owed(), owed(payment), balance(broke)) == (1, (0, 600), 400)


def test_a_second_refund_takes_nothing_of_what_came_in_for_what_was_held_at_the_first(broke, stripe):
    payment = paid(stripe, broke)
    end = in_flight(broke, 900)
    tell(refund(payment, 400))
    add(broke, 700)
    tell(refund(payment, 600))
    assert owed(payment) == (300, 300)
    end(900)
    assert (booking.take_owed(), owed(payment), balance(broke)) == (0, (0, 300), 500)
    assert reconcile() == []


def test_a_locked_account_keeps_no_other_payment_waiting(broke, acme, stripe):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock for all accounts")
    payments = [paid(stripe, world) for world in (broke, acme)]
    spend(acme, 1000)
    ends = [in_flight(broke, 600), in_flight(acme, 600)]
    for payment, end in zip(payments, ends, strict=True):
        tell(refund(payment, 1000))
        end(0)
    with locked_account(broke.workspace.account.pk), short_lock_waits(connection, 0.3):
        assert booking.take_owed() == 1
    assert [owed(payment) for payment in payments] == [(600, 400), (0, 1000)]
    assert booking.take_owed() == 1


def test_housekeeping_takes_what_is_owed_and_looks_at_no_other_payment(broke, stripe, django_assert_num_queries):
    payment = paid(stripe, broke)
    end = in_flight(broke, 600)
    tell(refund(payment, 1000))
    end(0)
    assert tidy(Clocks().watching_sweeper()).failed == ()
    assert owed(payment) == (0, 1000)
    with django_assert_num_queries(1) as queries:
        assert booking.take_owed() == 0
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {queries[0]['sql']}")
            assert "payment_that_owes" in str(cursor.fetchall())
