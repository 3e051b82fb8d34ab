"""Payments against a server that speaks as Stripe does: credited once, taken back, by themselves within a ceiling."""

import itertools
import json
import threading
import time

import pytest
from django.core.exceptions import ValidationError
from django.db import connections
from django.test import Client
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from billing import courier
from billing.ledger import transfers
from billing.ledger.reconcile import reconcile
from billing.models import Account, AuditEvent, Entry, Notice, Payment, PaymentTerms
from billing.payments import auto, booking, checkout
from billing.payments.auto import Auto
from tests.fakes.stripe_api import SECRET_KEY, event, signed, switched_on
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db(transaction=True)

CREDIT = 1_000_000
PAGE = "https://gateway.example/payments/{id}"


@pytest.fixture
def stripe(settings):
    with switched_on(settings) as fake:
        yield fake


def balance(world):
    return Account.objects.get(workspace=world.workspace).posted_microcredits // CREDIT


def tell(told, *, signature=None):
    """Stripe's request with an event."""
    body = json.dumps(told).encode()
    headers = {"stripe-signature": signed(body) if signature is None else signature}
    return Client().post("/stripe/events", body, content_type="application/json", headers=headers)


def begun(world, credits=1000, **values):
    return checkout.begin(world.workspace, credits, actor=ACTOR, page_url=PAGE, **{"keeps_card": False, **values})


def paid(stripe, world, **values):
    payment = begun(world, **values)
    for told in stripe.paid(stripe.sessions[payment.session_id]):
        assert tell(told).status_code == 200
    payment.refresh_from_db()
    return payment


def run_tasks():
    DBTaskResult.objects.filter(status="READY").update(run_after=timezone.now())
    courier.new_worker().run()


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
    start = threading.Barrier(6)

    def send(told):
        start.wait()
        tell(told)
        connections.close_all()

    threads = [threading.Thread(target=send, args=(told,)) for told in events * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # What the database was too busy for, Stripe tells again.
    for told in events:
        assert tell(told).status_code == 200
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


# Refunds and disputes


def refund(payment, units):
    return event("charge.refunded", {"payment_intent": payment.intent_id, "amount_refunded": units})


def dispute(payment, status, units=1000, *, name="dp_1", created=None):
    kind = "charge.dispute.created" if status.endswith("needs_response") else "charge.dispute.closed"
    told = {"id": name, "payment_intent": payment.intent_id, "amount": units, "status": status}
    return event(kind, told, created=created)


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
    transfers.adjust(broke.workspace, -900 * CREDIT, idempotency_key="spent", actor=ACTOR, reason="spent")
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
    start = threading.Barrier(6)

    def send(one):
        start.wait()
        tell(one)
        connections.close_all()

    threads = [threading.Thread(target=send, args=(one,)) for one in told * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # What the database was too busy for, Stripe tells again.
    for one in told:
        assert tell(one).status_code == 200
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


# By themselves


@pytest.fixture
def automatic(acme, stripe):
    """Acme's card is kept, and credit is bought below 900 credits, 600 at a time, at most 1500 a month."""
    paid(stripe, acme, keeps_card=True)
    auto.set_auto(acme.workspace, Auto(threshold=900, amount=600, ceiling=1500), actor=ACTOR)
    return acme


def spend(world, credits):
    key = f"spend {Entry.objects.count()}"
    transfers.adjust(world.workspace, -credits * CREDIT, idempotency_key=key, actor=ACTOR, reason="spent")


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


def test_without_its_keys_there_is_no_door(acme):
    assert tell({}).status_code == 404
    assert auto.begin_due() == 0
