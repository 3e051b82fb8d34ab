"""Migrations over rows that are there already, and what they must not take away."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from billing import audit
from billing.apikeys import find
from billing.ledger import triggers
from billing.ledger.reconcile import reconcile
from billing.ledger.transfers import grant, top_up
from billing.models import ApiKey, Budget, CreditLot, Entry, Hold, UsageRecord, Workspace
from tests.unit.billing.books import hold_of, new_budget, open_workspace, settle_of, with_writer
from tests.worlds import make_world

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE_MEMBERS = [("billing", "0002_ledger_triggers")]
"""Before credit lots and families of keys, too."""


def migrate(targets):
    executor = MigrationExecutor(connection)
    executor.migrate(targets)


@pytest.fixture
def latest():
    """The schema of this checkout, whatever a test did to it."""
    targets = MigrationExecutor(connection).loader.graph.leaf_nodes()
    yield targets
    migrate(targets)


def spend(name="acme"):
    """A workspace with a settled and an open hold, of a key with a budget."""
    subject = open_workspace(1000, name=name)
    new_budget("key", subject.api_key_id, 500)
    new_budget("workspace", subject.workspace_id, 900)
    settled = hold_of(subject, 100)

    async def scenario(writer):
        await writer.hold(settled)
        await writer.settle(settle_of(subject, settled.generation, 60))
        await writer.hold(hold_of(subject, 50))

    with_writer(scenario)
    return subject


def spend_credit_of_three_kinds(expires_at):
    """A workspace of 100 and 30 microcredits without an end and 50 with one, which are spent first, and 20 of the others."""
    subject = open_workspace(100, name="lots")
    workspace = Workspace.objects.get(pk=subject.workspace_id)
    why = {"actor": "ada", "reason": "a test"}
    top_up(workspace, 30, idempotency_key="second", **why)
    grant(workspace, 50, idempotency_key="third", expires_at=expires_at, **why)
    hold = hold_of(subject, 100)

    async def scenario(writer):
        await writer.hold(hold)
        await writer.settle(settle_of(subject, hold.generation, 70))

    with_writer(scenario)
    return subject


def budgets_of(subject):
    """By scope: spent before the period, in it, and held."""
    fields = ("scope", "spent_before_microcredits", "spent_microcredits", "held_microcredits")
    scopes = {"key": subject.api_key_id, "workspace": subject.workspace_id}
    return {
        row
        for scope, scope_id in scopes.items()
        for row in Budget.objects.filter(scope=scope, scope_id=scope_id).values_list(*fields)
    }


@pytest.mark.slow
def test_rows_of_an_older_schema_come_along_with_the_rules_around_them(latest):
    subject, renewed = spend(), spend("renewed")
    Budget.objects.filter(scope="workspace", scope_id=renewed.workspace_id).update(
        spent_microcredits=0, spent_before_microcredits=60, period_started_at=timezone.now()
    )
    expires_at = timezone.now() + timedelta(days=9)
    in_lots = spend_credit_of_three_kinds(expires_at)
    broke = open_workspace(name="broke")
    assert reconcile() == []
    kept = [list(model.objects.order_by("pk").values()) for model in (Entry, Hold, UsageRecord)]
    migrate(BEFORE_MEMBERS)
    migrate(latest)
    assert triggers.missing(connection) == []
    assert [list(model.objects.order_by("pk").values()) for model in (Entry, Hold, UsageRecord)] == kept
    key = ApiKey.objects.get(pk=subject.api_key_id)
    assert key.public_id.startswith("key_")
    assert len(set(Budget.objects.values_list("public_id", flat=True))) == 4
    # Its budget is now a limit of the key, which the row follows.
    assert key.max_budget_monthly_microcredits == 500
    assert key.first_id == key.pk
    assert find(key.digest).api_key_id == key.pk
    # What budgets spent before their period is taken from their holds.
    assert budgets_of(subject) == {("key", 0, 60, 50), ("workspace", 0, 60, 50)}
    assert budgets_of(renewed) == {("key", 0, 60, 50), ("workspace", 60, 0, 50)}
    # Credits become lots of what is spent last.
    lots = CreditLot.objects.filter(account=in_lots.account_id).order_by("pk").values_list("left_microcredits", "expires_at")
    assert list(lots) == [(80, None), (30, None), (0, expires_at)]
    assert not CreditLot.objects.filter(account=broke.account_id).exists()
    connection.check_constraints()
    # A busy machine migrates for longer than a lease.
    Hold.objects.filter(state="open").update(lease_expires_at=timezone.now() + timedelta(minutes=1))
    assert reconcile() == []
    assert spend().workspace_id != subject.workspace_id


BEFORE_CEILINGS_OF_STAFF = [("billing", "0032_owed_credit")]


CEILINGS = [
    ([("user:ada", 5)], 5, None),
    ([("staff:ada", 5)], 5, 5),
    ([("user:ada", 9), ("staff:ada", 5), ("user:ada", 3)], 3, 5),
    ([("staff:ada", 5), ("key:ada", 9)], 9, None),
    ([("staff:ada", 5), ("staff:ada", None), ("user:ada", 4)], 4, None),
]
"""Who limited a workspace in which order, its limit, and what is left of it as a ceiling."""


@pytest.mark.slow
def test_of_the_ceilings_of_workspaces_those_of_staff_stay(latest):
    worlds = [make_world(f"Limited {number}", credits=0) for number in range(len(CEILINGS))]
    migrate(BEFORE_CEILINGS_OF_STAFF)
    of_keys = [limit_as_before(world, acts, limit) for world, (acts, limit, _) in zip(worlds, CEILINGS, strict=True)]
    migrate(latest)
    for world, of_key, (acts, limit, ceiling) in zip(worlds, of_keys, CEILINGS, strict=True):
        of_workspace = Budget.objects.filter(scope="workspace", scope_id=world.workspace.pk)
        ceilings = dict(of_workspace.values_list("period", "ceiling_microcredits"))
        assert ceilings == {"day": ceiling, "week": None}, acts
        assert Budget.objects.get(pk=of_key.pk).ceiling_microcredits == limit, acts


def limit_as_before(world, acts, limit):
    """Two limits of the workspace, of which one was acted on; gives one of its key."""
    for actor, amount in acts:
        for period in ("day", "week"):
            details = {"scope": "workspace", "period": period, "limit_microcredits": amount if period == "day" else None}
            target = world.workspace.public_id
            audit.record("budget.set", actor=actor, workspace=world.workspace, target=target, details=details)
    row = {"scope": "workspace", "scope_id": world.workspace.pk, "limit_microcredits": limit, "ceiling_microcredits": limit}
    for period in ("day", "week"):
        Budget.objects.create(period=period, **row)
    return Budget.objects.create(**{**row, "scope": "key", "scope_id": world.key.pk})


@pytest.mark.parametrize(("table", "column"), [("billing_hold", "api_key_id"), ("billing_entry", "hold_id")])
def test_no_request_writes_an_index_that_nobody_asks(table, column):
    with connection.cursor() as cursor:
        indices = connection.introspection.get_constraints(cursor, table)
    columns = [told["columns"] for told in indices.values() if told["index"]]
    assert ["account_id", "created_at"] in columns or ["debit_account_id", "created_at"] in columns
    assert [column] not in columns


def test_no_row_of_a_request_is_checked_against_a_table_made_for_it():
    """As SQLite checks `IN`, once for each row."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL compares with a list")
    statements = [f"INSERT INTO billing_{table} DEFAULT VALUES" for table in ("hold", "entry", "usagerecord", "requesttrace")]
    with connection.cursor() as cursor:
        for statement in (*statements, "UPDATE billing_hold SET state = 'settled' WHERE id = 1"):
            cursor.execute(f"EXPLAIN {statement}")
            steps = [step for _, step, *_ in cursor.fetchall()]
            assert "Insert" in steps
            assert "OpenEphemeral" not in steps, statement


BEFORE_RULES_WITHOUT_A_TABLE = [("billing", "0034_indices_nobody_asks_for")]


def rules_said_as_lists():
    """Tables of money that SQLite checks a row of against `IN`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE sql LIKE %s", ['%_is_known" CHECK ("%" IN (%'])
        return {name for (name,) in cursor.fetchall()} & {"billing_hold", "billing_entry"}


def test_rules_that_are_said_anew_keep_the_rows_and_what_is_around_them(latest):
    is_sqlite = connection.vendor == "sqlite"
    migrate(BEFORE_RULES_WITHOUT_A_TABLE)
    assert not is_sqlite or rules_said_as_lists() == {"billing_hold", "billing_entry"}
    spend()
    kept = [list(model.objects.order_by("pk").values()) for model in (Entry, Hold)]
    migrate(latest)
    assert not is_sqlite or rules_said_as_lists() == set()
    assert [list(model.objects.order_by("pk").values()) for model in (Entry, Hold)] == kept
    assert triggers.missing(connection) == []
    with pytest.raises(IntegrityError):
        Hold.objects.filter(state="open").update(state="gone", closed_at=timezone.now())
    assert Hold.objects.filter(state="open").update(state="voided", closed_at=timezone.now()) == 1
    connection.check_constraints()
