"""What is documented of each event is what arrives: every kind there is, told by what tells it, at a real receiver."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from billing import budgets, courier
from billing.alerts import spreading
from billing.alerts.judging import ModelFact, QuotaFact
from billing.alerts.watching import Sources, Watch
from billing.apikeys import mint, revoke
from billing.ledger import transfers
from billing.models import Budget, Notice, WebhookDelivery
from billing.payments import booking
from billing.webhooks import deliveries, endpoints
from billing.webhooks.events import EVENTS, EVERY
from billing.workspaces import transfer_credits
from tests.fakes.receiver import Receiver
from tests.records import add_record
from tests.worlds import ACTOR, make_payment

pytestmark = pytest.mark.django_db(transaction=True)

CREDIT = 1_000_000


@pytest.fixture
def receiver(settings):
    with Receiver() as running:
        settings.WEBHOOK_NETWORKS = ["127.0.0.0/8"]
        settings.WEBHOOK_PORTS = [80, 443, running.port]
        yield running


def deliver():
    spreading.spread()
    DBTaskResult.objects.filter(status="READY").update(run_after=timezone.now())
    courier.new_worker().run()


def tell_everything(world):
    workspace, now = world.workspace, timezone.now()
    facts = Sources(
        quotas=lambda workspaces, now: {workspace.pk: [QuotaFact("files", 9, 10)]},
        models=lambda workspaces, now: {workspace.pk: [ModelFact("old", now.date())]},
    )
    key, _ = mint(workspace, "laptop", actor=ACTOR)
    budgets.set_budget(key, period=Budget.Period.MONTH, limit_microcredits=CREDIT, actor=ACTOR)
    budgets.set_budget(workspace, period=Budget.Period.DAY, limit_microcredits=CREDIT, actor=ACTOR)
    Budget.objects.update(spent_microcredits=CREDIT)
    for _ in range(20):
        add_record(world, created_at=now, fallback_depth=1)
    soon = {"actor": ACTOR, "reason": "a test", "expires_at": now + timedelta(days=3)}
    transfers.grant(workspace, 30 * CREDIT, idempotency_key="g", **soon)
    watch = Watch(facts)
    watch.look()
    transfers.adjust(workspace, -1000 * CREDIT, idempotency_key="a", actor=ACTOR, reason="spent")
    watch.look()
    revoke(key, actor=ACTOR)
    transfer_credits(workspace, 5 * CREDIT, kind="top_up", idempotency_key="t", actor=ACTOR, reason="paid")
    booking.fail(make_payment(workspace).public_id, "Your card was declined.")


def test_every_kind_arrives_with_what_is_documented(acme, receiver):
    lost, _ = endpoints.create(acme.workspace, receiver.url, [], actor=ACTOR)
    receiver.status = 410
    tell_everything(acme)
    deliver()
    lost.refresh_from_db()
    assert lost.disabled_at is not None
    receiver.status = 200
    receiver.got.clear()
    endpoint, _ = endpoints.create(acme.workspace, receiver.url, [], actor=ACTOR)
    Notice.objects.update(spread_at=None)
    deliveries.send_test(endpoint)
    deliver()
    arrived = {told["type"]: told for told in (json.loads(body) for _, body in receiver.got)}
    assert set(arrived) == set(EVENTS) == {*Notice.Kind.values, "webhook.test"}
    for kind, told in arrived.items():
        assert told["data"].keys() == {*EVERY, *EVENTS[kind].data}, kind
        assert told["data"]["workspace_id"] == acme.workspace.public_id
        assert datetime.fromisoformat(told["timestamp"]).tzinfo == UTC
    assert not WebhookDelivery.objects.filter(endpoint=endpoint).exclude(state="delivered").exists()
