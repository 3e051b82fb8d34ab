"""What people and Stripe do about payments: checkouts, events, refunds, disputes."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

from django.db import connections
from django.db.models import F
from django.test import Client
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from billing import courier
from billing.ledger import transfers
from billing.models import Account, Entry, Payment
from billing.payments import checkout
from tests.fakes.stripe_api import event, signed
from tests.worlds import ACTOR

CREDIT = 1_000_000
PAGE = "https://gateway.example/payments/{id}"


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


def pass_hours(hours):
    """As if payments were begun, and tasks ended, so long ago."""
    passed = timedelta(hours=hours)
    Payment.objects.update(created_at=F("created_at") - passed)
    DBTaskResult.objects.filter(finished_at__isnull=False).update(finished_at=F("finished_at") - passed)


def add(world, credits):
    """Credit that comes in, or with a negative number leaves, without a payment."""
    key = f"{credits} after {Entry.objects.count()} others"
    transfers.adjust(world.workspace, credits * CREDIT, idempotency_key=key, actor=ACTOR, reason="a test")


def spend(world, credits):
    add(world, -credits)


def refund(payment, units):
    return event("charge.refunded", {"payment_intent": payment.intent_id, "amount_refunded": units})


def dispute(payment, status, units=1000, *, name="dp_1", created=None):
    kind = "charge.dispute.created" if status.endswith("needs_response") else "charge.dispute.closed"
    told = {"id": name, "payment_intent": payment.intent_id, "amount": units, "status": status}
    return event(kind, told, created=created)


def tell_at_once(events):
    """Each of the events in a thread of its own; what the database was too busy for, Stripe tells again."""
    start = threading.Barrier(len(events))

    def send(told):
        start.wait()
        tell(told)
        connections.close_all()

    threads = [threading.Thread(target=send, args=(told,)) for told in events]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for told in events:
        assert tell(told).status_code == 200
