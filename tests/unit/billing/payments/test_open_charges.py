"""Charges whose end Stripe tells later, or nobody tells: what became of them is looked up, so that others can follow."""

import pytest
from django_tasks_db.models import DBTaskResult

from billing.alerts.watching import Watch
from billing.housekeeping import book
from billing.models import Notice, Payment
from billing.payments import auto
from billing.sweeping import Sweeper
from tests.fakes.stripe_api import event
from tests.unit.billing.payments.paying import balance, pass_hours, run_tasks, spend, tell

pytestmark = pytest.mark.django_db(transaction=True)

DECLINED = {"status": "requires_payment_method", "last_payment_error": {"message": "Your card was declined."}}
ABANDONED = {"status": "canceled", "cancellation_reason": "requested_by_customer"}


@pytest.fixture
def processing(automatic, stripe):
    """A payment by itself that Stripe is still at."""
    spend(automatic, 1500)
    stripe.charged = "processing"
    auto.begin_due()
    run_tasks()
    assert auto.begin_due() == 0
    return Payment.objects.get(origin="auto", state="open")


def stands(payment):
    payment.refresh_from_db()
    return payment.state, payment.failure


@pytest.mark.parametrize(
    ("kind", "told", "failure"),
    [
        ("payment_failed", DECLINED, "Your card was declined."),
        ("canceled", ABANDONED, "Stripe canceled the charge: requested by customer."),
        ("canceled", {"status": "canceled"}, "Stripe canceled the charge."),
    ],
    ids=["declined", "canceled", "canceled without a reason"],
)
def test_a_charge_that_ends_later_without_money_is_a_failed_one(processing, stripe, kind, told, failure):
    for _ in range(2):
        assert tell(event(f"payment_intent.{kind}", stripe.charges[0] | told)).status_code == 200
    assert stands(processing) == ("failed", failure)
    assert failure in Notice.objects.get(kind="payment.failed").text
    pass_hours(1)
    assert auto.begin_due() == 1


@pytest.mark.parametrize(
    ("end", "state", "failure", "credits"),
    [
        ({"status": "succeeded", "amount_received": 600}, "paid", "", 1100),
        (DECLINED, "failed", "Your card was declined.", 500),
        (ABANDONED, "failed", "Stripe canceled the charge: requested by customer.", 500),
        ({"status": "requires_action"}, "failed", "The bank wants its owner to confirm the charge.", 500),
        ({"status": "processing"}, "open", "", 500),
    ],
    ids=["paid", "declined", "canceled", "to confirm", "still processing"],
)
def test_what_became_of_a_charge_is_looked_up_after_an_hour(automatic, processing, stripe, end, state, failure, credits):
    stripe.charges[0] |= end
    assert auto.look_up_open() == 0
    pass_hours(1)
    assert [auto.look_up_open(), auto.look_up_open()] == [1, 0]
    run_tasks()
    assert (*stands(processing), balance(automatic)) == (state, failure, credits)
    assert auto.look_up_open() == 0
    pass_hours(1)
    assert auto.look_up_open() == (state == "open")


def test_a_charge_whose_task_died_before_it_asked_has_failed(automatic, stripe):
    spend(automatic, 1500)
    auto.begin_due()
    pass_hours(1)
    assert auto.look_up_open() == 0  # Its task waits still.
    charge = DBTaskResult.objects.filter(task_path=auto.charge.module_path)
    charge.update(status="FAILED", finished_at=Payment.objects.latest("pk").created_at)
    stripe.is_away = True
    assert auto.look_up_open() == 1
    run_tasks()
    assert stands(Payment.objects.latest("pk")) == ("open", "")
    stripe.is_away = False
    pass_hours(1)
    assert auto.look_up_open() == 1
    run_tasks()
    assert stands(Payment.objects.latest("pk")) == ("failed", "The charge did not reach the payment service.")
    assert stripe.charges == []
    assert auto.begin_due() == 1


def test_a_charge_that_nobody_wants_any_more_and_stripe_is_at_is_waited_for(automatic, stripe):
    spend(automatic, 1500)
    stripe.charged, stripe.loses_answers = "processing", True
    auto.begin_due()
    run_tasks()
    auto.set_auto(automatic.workspace, None, actor="tests")
    stripe.loses_answers = False
    run_tasks()
    payment = Payment.objects.latest("pk")
    assert stands(payment) == ("open", "")
    stripe.charges[0] |= {"status": "succeeded", "amount_received": 600}
    assert tell(event("payment_intent.succeeded", stripe.charges[0])).status_code == 200
    assert (stands(payment)[0], balance(automatic)) == ("paid", 1100)


def test_housekeeping_has_charges_looked_up(processing):
    pass_hours(1)
    assert book(Sweeper(), Watch()).failed == ()
    assert DBTaskResult.objects.filter(task_path=auto.look_up.module_path).count() == 1
