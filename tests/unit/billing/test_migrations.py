"""Migrations over rows that are there already, and what they must not take away."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from billing.apikeys import find
from billing.ledger import triggers
from billing.ledger.reconcile import reconcile
from billing.ledger.transfers import grant, top_up
from billing.models import ApiKey, Budget, CreditLot, Entry, Hold, UsageRecord, Workspace
from tests.unit.billing.books import hold_of, new_budget, open_workspace, settle_of, with_writer

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE_MEMBERS = [("billing", "0002_ledger_triggers")]
BEFORE_LOTS = [("billing", "0005_end_users")]
BEFORE_FAMILIES = [("billing", "0006_credit_lots")]


def migrate(targets):
    executor = MigrationExecutor(connection)
    executor.migrate(targets)


@pytest.fixture
def latest():
    """The schema of this checkout, whatever a test did to it."""
    targets = MigrationExecutor(connection).loader.graph.leaf_nodes()
    yield targets
    migrate(targets)


def spend():
    """A workspace with a settled and an open hold, of a key with a budget."""
    subject = open_workspace(1000)
    new_budget("key", subject.api_key_id, 500)
    new_budget("workspace", subject.workspace_id, 900)
    settled = hold_of(subject, 100)

    async def scenario(writer):
        await writer.hold(settled)
        await writer.settle(settle_of(subject, settled.generation, 60))
        await writer.hold(hold_of(subject, 50))

    with_writer(scenario)
    return subject


def test_rows_of_an_older_schema_come_along_with_the_rules_around_them(latest):
    subject = spend()
    kept = [list(model.objects.order_by("pk").values()) for model in (Entry, Hold, UsageRecord)]
    migrate(BEFORE_MEMBERS)
    migrate(latest)
    assert triggers.missing(connection) == []
    assert [list(model.objects.order_by("pk").values()) for model in (Entry, Hold, UsageRecord)] == kept
    key = ApiKey.objects.get(pk=subject.api_key_id)
    assert key.public_id.startswith("key_")
    assert len(set(Budget.objects.values_list("public_id", flat=True))) == 2
    # Its budget is now a limit of the key, which the row follows.
    assert key.max_budget_monthly_microcredits == 500
    assert find(key.digest).api_key_id == key.pk
    connection.check_constraints()
    # A busy machine migrates for longer than a lease.
    Hold.objects.filter(state="open").update(lease_expires_at=timezone.now() + timedelta(minutes=1))
    assert reconcile() == []
    assert spend().workspace_id != subject.workspace_id


def test_credits_of_an_older_schema_become_lots_of_what_is_spent_last(latest):
    subject = open_workspace(100)
    workspace = Workspace.objects.get(pk=subject.workspace_id)
    why = {"actor": "ada", "reason": "a test"}
    expires_at = timezone.now() + timedelta(days=9)
    top_up(workspace, 30, idempotency_key="second", **why)
    grant(workspace, 50, idempotency_key="third", expires_at=expires_at, **why)
    hold = hold_of(subject, 100)

    async def spend(writer):
        await writer.hold(hold)
        await writer.settle(settle_of(subject, hold.generation, 70))

    with_writer(spend)
    open_workspace(name="broke")
    migrate(BEFORE_LOTS)
    migrate(latest)
    lots = CreditLot.objects.order_by("pk").values_list("left_microcredits", "expires_at")
    assert list(lots) == [(80, None), (30, None), (0, expires_at)]
    assert triggers.missing(connection) == []
    assert reconcile() == []


def test_what_budgets_spent_before_their_period_is_taken_from_their_holds(latest):
    subject = spend()
    Budget.objects.filter(scope="workspace").update(
        spent_microcredits=0, spent_before_microcredits=60, period_started_at=timezone.now()
    )
    assert reconcile() == []
    migrate(BEFORE_FAMILIES)
    migrate(latest)
    budgets = Budget.objects.values_list("scope", "spent_before_microcredits", "spent_microcredits", "held_microcredits")
    assert set(budgets) == {("key", 0, 60, 50), ("workspace", 60, 0, 50)}
    assert ApiKey.objects.get(pk=subject.api_key_id).first_id == subject.api_key_id
    assert triggers.missing(connection) == []
    assert reconcile() == []
