"""Payments that are credited once, of checkouts and by themselves within a ceiling."""

import json
import time

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from django.test import Client
from django.utils import timezone

from billing import workspaces
from billing.ledger.reconcile import reconcile
from billing.models import Account, AuditEvent, Entry, Notice, Payment, PaymentTerms, Workspace
from billing.payments import auto, booking
from billing.payments.auto import Auto
from tests.fakes.stripe_api import SECRET_KEY, event, signed
from tests.unit.billing.payments.paying import CREDIT, PAGE, balance, begun, paid, run_tasks, spend, tell, tell_at_once
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db(transaction=True)


# Checkout


def test_a_checkout_is_credited_once_with_the_id_of_its_payment(acme, stripe):
    payment = begun(acme, 2500)
    session = stripe.sessions[payment.session_id]
    assert (session["amount_total"], session["currency"]) == (2500, "usd")
    assert session["success_url"] == PAGE.format(id=payment.public_id)
    assert payment.checkout_url.startswith(stripe.url)
    assert stripe.calls == [("POST /v1/checkout/sessions", f"Bearer {SECRET_KEY}")]
    assert balance(acme) == 1000
    events = stripe.paid(session)
    for told in [*events, *reversed(events)] * 3:
        assert tell(told).status_code == 200
    payment.refresh_from_db()
    assert (payment.state, balance(acme)) == ("paid", 3500)
    assert payment.entry.idempotency_key == f"stripe:{payment.intent_id}"
    assert (payment.entry.kind, payment.entry.reason) == ("top_up", f"Payment {payment.public_id}")
    assert reconcile() == []


def test_events_that_come_at_once_make_one_entry(acme, stripe):
    payment = begun(acme)
    events = stripe.paid(stripe.sessions[payment.session_id])
    tell_at_once(events * 3)
    assert Entry.objects.filter(idempotency_key__startswith="stripe:").count() == 1
    assert balance(acme) == 2000


@pytest.mark.parametrize(
    "signature",
    ["", "nonsense", "t=1,v1=00", signed(b"{}"), signed(b"other", secret="whsec_other")],
    ids=["none", "nonsense", "of another time", "of another body", "by another secret"],
)
def test_an_event_that_stripe_did_not_sign_does_nothing(acme, stripe, signature):
    payment = begun(acme)
    told = stripe.paid(stripe.sessions[payment.session_id])[0]
    response = tell(told, signature=signature)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "event_not_signed")
    assert balance(acme) == 1000


def test_an_event_that_was_signed_long_ago_or_is_none_does_nothing(acme, stripe):
    told = stripe.paid(stripe.sessions[begun(acme).session_id])[0]
    body = json.dumps(told).encode()
    assert tell(told, signature=signed(body, at=time.time() - 301)).status_code == 400
    for other in ([], {}, {"type": "x"}, {"type": "x", "data": 1}, {"type": "x", "data": {"object": {}}}):
        assert tell(other).status_code == 400
    assert balance(acme) == 1000
    assert Client().get("/stripe/events").status_code == 405


def test_another_amount_than_was_asked_for_is_not_credited(acme, stripe):
    payment = begun(acme)
    told = stripe.paid(stripe.sessions[payment.session_id])[0]
    for change in ({"amount_received": 1}, {"currency": "jpy"}):
        response = tell(event(told["type"], told["data"]["object"] | change))
        assert (response.status_code, response.json()["error"]["code"]) == (409, "payment_not_as_asked")
    assert balance(acme) == 1000


def test_what_is_of_another_product_is_passed_over(acme, stripe):
    intent = {"id": "pi_other", "amount_received": 1, "currency": "usd", "metadata": {}}
    charge = {"id": "dp_1", "payment_intent": "pi_other", "amount_refunded": 1, "amount": 1, "status": "lost"}
    for kind, told in (
        ("payment_intent.succeeded", intent),
        ("payment_intent.payment_failed", intent),
        ("checkout.session.expired", {"metadata": None}),
        ("charge.refunded", charge),
        ("charge.dispute.created", charge),
        ("customer.created", {}),
    ):
        assert tell(event(kind, told)).status_code == 200
    assert balance(acme) == 1000


@pytest.mark.parametrize("credits", [0, 499, 1_000_001])
def test_sums_that_cannot_be_bought(acme, stripe, credits):
    with pytest.raises(ValidationError, match="500 to 1,000,000"):
        begun(acme, credits)
    assert stripe.calls == []


def test_a_provider_that_is_away_is_told_and_leaves_nothing_open(acme, stripe):
    stripe.is_away = True
    with pytest.raises(ValidationError, match="does not answer"):
        begun(acme)
    assert Payment.objects.get().state == "canceled"


def test_a_checkout_whose_events_were_lost_is_looked_up(acme, stripe):
    first, second = begun(acme), begun(acme)
    stripe.paid(stripe.sessions[first.session_id])
    stripe.sessions[second.session_id]["status"] = "expired"
    stripe.is_away = True
    run_tasks()
    stripe.is_away = False
    run_tasks()
    assert list(Payment.objects.order_by("pk").values_list("state", flat=True)) == ["paid", "canceled"]
    assert balance(acme) == 2000


def test_an_expired_checkout_that_is_paid_after_all_is_credited(acme, stripe):
    payment = begun(acme)
    session = stripe.sessions[payment.session_id]
    tell(event("checkout.session.expired", session))
    payment.refresh_from_db()
    assert payment.state == "canceled"
    tell(stripe.paid(session)[1])
    assert balance(acme) == 2000


def test_the_card_of_the_newest_payment_that_keeps_one_counts_in_whatever_order_they_are_told(acme, stripe):
    payments = [begun(acme, keeps_card=keeps_card) for keeps_card in (True, True, False)]
    old, new, once = (
        stripe.paid(stripe.sessions[payment.session_id], card=card)
        for payment, card in zip(payments, ("pm_old", "pm_new", "pm_once"), strict=True)
    )
    # The old card serves while all that is told of the new payment is that it is paid.
    for told, card in (
        (new[1], None),
        (old[0], "pm_old"),
        (new[0], "pm_new"),
        (old[0], "pm_new"),
        (once[0], "pm_new"),
        (new[0], "pm_new"),
    ):
        assert tell(told).status_code == 200
        assert PaymentTerms.objects.values_list("method_id", flat=True).first() == card
    PaymentTerms.objects.all().delete()
    for told in (new[0], old[0]):
        tell(told)
    assert PaymentTerms.objects.get().method_id == "pm_new"


# By themselves


def failed():
    return list(Payment.objects.filter(state="failed").values_list("failure", flat=True))


def pass_time():
    Payment.objects.update(created_at=timezone.now() - auto.REST)


def test_credit_is_bought_when_the_balance_is_low_and_within_the_ceiling(automatic, stripe):
    assert auto.begin_due() == 0
    spend(automatic, 1200)
    assert [auto.begin_due(), auto.begin_due()] == [1, 0]
    run_tasks()
    (charge,) = stripe.charges
    assert (charge["customer"], charge["payment_method"], charge["amount_received"]) == ("cus_1", "pm_1", 600)
    tell(event("payment_intent.succeeded", charge))
    assert balance(automatic) == 1400
    spend(automatic, 1000)
    assert auto.begin_due() == 1
    run_tasks()
    assert balance(automatic) == 1000
    spend(automatic, 900)
    assert auto.begin_due() == 0
    assert auto.charged_this_month(automatic.workspace.pk, timezone.now()) == 1200 * CREDIT


def test_after_three_failed_charges_it_is_off_and_told(automatic, stripe):
    spend(automatic, 1500)
    stripe.decline = "Your card was declined."
    for number in range(1, 4):
        assert auto.begin_due() == 1
        run_tasks()
        assert len(failed()) == number
        assert auto.begin_due() == 0
        pass_time()
    assert auto.begin_due() == 0
    terms = PaymentTerms.objects.get()
    assert (terms.is_auto, terms.failures, failed()[0]) == (False, 3, "Your card was declined.")
    titles = list(Notice.objects.filter(kind="payment.failed").order_by("pk").values_list("title", flat=True))
    assert titles == ["A payment of Acme failed", "Auto top-up of Acme is off"]
    assert AuditEvent.objects.filter(action="payments.auto_ended").count() == 1


def test_a_charge_that_succeeds_counts_failures_anew(automatic, stripe):
    spend(automatic, 1500)
    PaymentTerms.objects.update(failures=2)
    auto.begin_due()
    run_tasks()
    assert PaymentTerms.objects.get().failures == 0


def test_a_charge_whose_answer_is_lost_is_made_once(automatic, stripe):
    spend(automatic, 1500)
    auto.begin_due()
    stripe.is_away = True
    run_tasks()
    run_tasks()
    stripe.is_away = False
    run_tasks()
    auto.charge.call(Payment.objects.latest("pk").public_id)
    assert len(stripe.charges) == 1
    assert balance(automatic) == 1100


def test_a_provider_that_stays_away_is_a_failed_charge_that_may_still_succeed(automatic, stripe):
    spend(automatic, 1500)
    auto.begin_due()
    stripe.is_away = True
    for _ in range(len(auto.RETRY_AFTER) + 1):
        run_tasks()
    assert failed() == ["The payment service did not answer."]
    payment = Payment.objects.get(state="failed")
    booking.settle(payment.public_id, intent_id="pi_late", units=600, currency="usd")
    assert balance(automatic) == 1100


@pytest.mark.slow
def test_a_hundred_that_wait_keep_nobody_else_from_his_turn(acme, stripe):
    waiting = Workspace.objects.bulk_create(Workspace(name=f"waits {number}") for number in range(100))
    Account.objects.bulk_create(Account(kind="workspace", workspace=one) for one in waiting)
    by_itself = {"origin": "auto", "amount_microcredits": 600 * CREDIT, "price_units": 600, "currency": "usd"}
    others = Payment.objects.bulk_create(Payment(workspace=one, created_by=ACTOR, **by_itself) for one in waiting)
    card = {"customer_id": "cus_1", "method_id": "pm_1", "is_auto": True}
    sums = dict(zip(("threshold", "amount", "ceiling"), (1700 * CREDIT, 600 * CREDIT, 1100 * CREDIT), strict=True))
    terms = card | {f"{name}_microcredits": sum for name, sum in sums.items()}
    PaymentTerms.objects.bulk_create(PaymentTerms(workspace=one, **terms) for one in [*waiting, acme.workspace])
    own = Payment.objects.filter(workspace=acme.workspace)

    assert [auto.begin_due(), own.count()] == [1, 1]
    own.delete()
    Payment.objects.update(state="failed")
    assert [auto.begin_due(), own.count()] == [1, 1]
    own.delete()
    with transaction.atomic():
        for other in others:
            booking.settle(other.public_id, intent_id=f"pi_{other.pk}", units=600, currency="usd")
    assert [auto.begin_due(), own.count()] == [1, 1]


@pytest.mark.parametrize("wanted", [Auto(0, 600, 1500), Auto(100, 499, 1500), Auto(100, 600, 599)])
def test_terms_that_cannot_be(automatic, wanted):
    with pytest.raises(ValidationError):
        auto.set_auto(automatic.workspace, wanted, actor=ACTOR)
    assert PaymentTerms.objects.get().threshold_microcredits == 900 * CREDIT


def test_without_a_card_that_is_kept_it_cannot_be_switched_on(acme, stripe):
    paid(stripe, acme)
    with pytest.raises(ValidationError, match="card that is kept"):
        auto.set_auto(acme.workspace, Auto(900, 600, 1500), actor=ACTOR)
    auto.set_auto(acme.workspace, None, actor=ACTOR)


def test_switched_off_or_suspended_nothing_is_bought(automatic, stripe):
    spend(automatic, 1500)
    automatic.workspace.state = "suspended"
    automatic.workspace.save()
    assert auto.begin_due() == 0
    automatic.workspace.state = "active"
    automatic.workspace.save()
    auto.set_auto(automatic.workspace, None, actor=ACTOR)
    assert auto.begin_due() == 0


def switch_off(world):
    auto.set_auto(world.workspace, None, actor=ACTOR)


def stop(world):
    assert workspaces.stop_spending(world.workspace, actor=ACTOR)


def close(world):
    assert workspaces.close_workspace(world.workspace, actor=ACTOR)


@pytest.mark.parametrize("end", [switch_off, stop, close])
@pytest.mark.parametrize("is_tried", [False, True], ids=["not tried", "tried in vain"])
def test_a_card_is_not_charged_after_its_workspace_wants_no_more(automatic, stripe, end, is_tried):
    spend(automatic, 1500)
    auto.begin_due()
    if is_tried:
        stripe.is_away = True
        run_tasks()
        stripe.is_away = False
    end(automatic)
    run_tasks()
    payment = Payment.objects.latest("pk")
    assert (stripe.charges, payment.state, balance(automatic)) == ([], "canceled", 500)
    assert payment.failure.endswith("before the card was charged.")
    assert not Notice.objects.filter(kind="payment.failed").exists()


@pytest.mark.parametrize("end", [switch_off, stop, close])
def test_a_charge_whose_answer_is_lost_is_credited_though_nobody_wants_more(automatic, stripe, end):
    spend(automatic, 1500)
    auto.begin_due()
    stripe.loses_answers = True
    run_tasks()
    end(automatic)
    run_tasks()
    assert Payment.objects.latest("pk").state == "open"
    stripe.loses_answers = False
    run_tasks()
    assert (len(stripe.charges), Payment.objects.latest("pk").state, balance(automatic)) == (1, "paid", 1100)


def test_without_its_keys_there_is_no_door(acme):
    assert tell({}).status_code == 404
    assert auto.begin_due() == 0
