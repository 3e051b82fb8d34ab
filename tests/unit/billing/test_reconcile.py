"""Books that balance are clean; each planted corruption is found, and named."""

import json
import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from billing.ledger import triggers
from billing.ledger.reconcile import CHECKS, queries, reconcile, unproven
from billing.models import Budget, Entry, Hold, UsageRecord, Workspace
from tests.unit.billing.books import hold_of, new_budget, note_of, open_workspace, other_connection, settle_of, with_writer

pytestmark = pytest.mark.django_db(transaction=True)

POSTED = "posted is the sum of the entries"
HELD = "held is the sum of the open holds"
RANGE = "held is from nothing to posted"
LOTS = "what is left of the lots is the sum of the entries they show"
LOT = "each credit has its lot, with at most what it gave"
SETTLED = "the holds of a generation settle its usage entry"
WITHIN = "a charge is at most what its generation held"
PARTIES = "a usage entry goes from the account of its hold to revenue"
RECORDED = "a usage entry has a usage record of the same charge"
ENTERED = "a charged usage record has a usage entry"
LINES = "the lines of a receipt sum to its charge"
BUDGET_HELD = "a budget holds what its open holds hold"
BUDGET_SPENT = "a budget has spent what its holds paid"
LEASE = "no hold stays open past its lease"
ZERO = "all accounts sum to zero"
TRIGGERS = "the triggers are as listed"

# Statements in the hands of someone who can switch the triggers off, and the checks that tell.
CORRUPTIONS = {
    "credit out of nowhere": (
        ["UPDATE billing_account SET posted_microcredits = posted_microcredits + 5 WHERE kind = 'workspace'"],
        {POSTED, ZERO},
    ),
    "held credit forgotten": (["UPDATE billing_account SET held_microcredits = 0 WHERE kind = 'workspace'"], {HELD}),
    "usage entry deleted": (
        ["DELETE FROM billing_entry WHERE generation = 'chatcmpl-settled'"],
        {POSTED, ZERO, SETTLED, ENTERED},
    ),
    "usage entry shrunk": (
        ["UPDATE billing_entry SET amount_microcredits = 1 WHERE generation = 'chatcmpl-settled'"],
        {POSTED, ZERO, SETTLED, RECORDED},
    ),
    "charge beyond the hold, everywhere": (
        [
            "UPDATE billing_entry SET amount_microcredits = 150 WHERE generation = 'chatcmpl-settled'",
            "UPDATE billing_usagerecord SET charged_microcredits = 150 WHERE generation = 'chatcmpl-settled'",
            "UPDATE billing_account SET posted_microcredits = posted_microcredits - 90 WHERE kind = 'workspace'",
        ],
        {WITHIN, SETTLED, LINES},
    ),
    "top-up enlarged": (
        ["UPDATE billing_entry SET amount_microcredits = amount_microcredits + 1 WHERE kind = 'top_up'"],
        {POSTED, ZERO, LOTS},
    ),
    "more left of a lot than it was": (["UPDATE billing_creditlot SET left_microcredits = 10001"], {LOTS, LOT}),
    "expiry of a lot put off": (["UPDATE billing_creditlot SET expires_at = '2999-01-01 00:00:00+00:00'"], {LOT}),
    "lot deleted": (["DELETE FROM billing_creditlot"], {LOTS, LOT}),
    "usage paid by someone else": (
        [
            "UPDATE billing_entry SET debit_account_id = (SELECT id FROM billing_account WHERE kind = 'promo') "
            "WHERE generation = 'chatcmpl-settled'"
        ],
        {POSTED, ZERO, PARTIES, RECORDED},
    ),
    "usage paid to the world": (
        [
            "UPDATE billing_entry SET credit_account_id = (SELECT id FROM billing_account WHERE kind = 'world') "
            "WHERE generation = 'chatcmpl-settled'"
        ],
        {PARTIES},
    ),
    "hold settled for less": (
        ["UPDATE billing_hold SET settled_microcredits = 1 WHERE generation = 'chatcmpl-settled'"],
        {SETTLED, BUDGET_SPENT},
    ),
    "hold deleted": (["DELETE FROM billing_hold WHERE generation = 'chatcmpl-open'"], {HELD, BUDGET_HELD}),
    "closed hold opened again": (
        [
            "UPDATE billing_hold SET state = 'open', settled_microcredits = 0, closed_at = NULL "
            "WHERE generation = 'chatcmpl-settled'"
        ],
        {HELD, SETTLED, BUDGET_HELD, BUDGET_SPENT},
    ),
    "open hold shrunk": (
        ["UPDATE billing_hold SET amount_microcredits = 1 WHERE generation = 'chatcmpl-open'"],
        {HELD, BUDGET_HELD},
    ),
    "open hold forgotten for a minute": (
        ["UPDATE billing_hold SET lease_expires_at = created_at - (lease_expires_at - created_at) WHERE state = 'open'"],
        {LEASE},
    ),
    "receipt relabelled": (
        ["UPDATE billing_usagerecord SET lines = '[]' WHERE generation = 'chatcmpl-settled'"],
        {LINES},
    ),
    "charge of a record changed": (
        ["UPDATE billing_usagerecord SET charged_microcredits = 0 WHERE generation = 'chatcmpl-settled'"],
        {RECORDED, LINES},
    ),
    "record deleted": (["DELETE FROM billing_usagerecord WHERE generation = 'chatcmpl-settled'"], {RECORDED}),
    "charge without an entry": (
        ["UPDATE billing_usagerecord SET charged_microcredits = 9 WHERE generation = 'chatcmpl-void'"],
        {ENTERED, LINES},
    ),
    "budget emptied": (["UPDATE billing_budget SET spent_microcredits = 0"], {BUDGET_SPENT}),
    "budget holds what nobody holds": (["UPDATE billing_budget SET held_microcredits = 7"], {BUDGET_HELD}),
}


@pytest.fixture
def acme():
    """A workspace with a settled, an overrun, a voided and an open generation, and a budget above them."""
    subject = open_workspace(10_000)
    new_budget("key", subject.api_key_id, 5_000, period="never")

    async def scenario(writer):
        for name, amount, actual in [("settled", 100, 60), ("overrun", 40, 55), ("void", 30, 0)]:
            generation = f"chatcmpl-{name}"
            await writer.hold(hold_of(subject, amount, generation=generation))
            await writer.settle(settle_of(subject, generation, actual, finish_reason="stop"))
        await writer.hold(hold_of(subject, 50, generation="chatcmpl-open"))
        writer.note(note_of(subject, "chatcmpl-note"))

    with_writer(scenario)
    return subject


@contextmanager
def without_triggers():
    with connection.schema_editor() as editor:
        triggers.remove(editor)
    try:
        yield
    finally:
        with connection.schema_editor() as editor:
            triggers.install(editor)


def plant(statements):
    with without_triggers(), transaction.atomic(), connection.cursor() as cursor:
        for statement in statements:
            if connection.vendor == "sqlite":
                statement = statement.replace(  # SQLite cannot subtract times
                    "created_at - (lease_expires_at - created_at)", "datetime(created_at, '-2 minutes')"
                )
            cursor.execute(statement)
            assert cursor.rowcount == 1, statement


def found():
    return {violation.check for violation in reconcile()}


def test_books_that_balance_are_clean(acme):
    assert reconcile() == []
    assert reconcile(workspace_id=acme.workspace_id) == []


@pytest.mark.parametrize(("statements", "checks"), CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
def test_a_planted_corruption_is_found(acme, statements, checks):
    plant(statements)
    assert found() == checks


def test_an_overdraft_is_found_where_its_constraint_is_gone(acme):
    """Constraints refuse it, so it takes someone who drops them."""
    with without_triggers(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ALTER TABLE billing_account DROP CONSTRAINT account_has_no_overdraft")
        else:
            cursor.execute("PRAGMA ignore_check_constraints = ON")
        try:
            cursor.execute("UPDATE billing_account SET posted_microcredits = 10 WHERE kind = 'workspace'")
            assert found() == {POSTED, RANGE, ZERO, TRIGGERS}
        finally:
            cursor.execute("UPDATE billing_account SET posted_microcredits = 9900 WHERE kind = 'workspace'")
            if connection.vendor == "postgresql":
                cursor.execute(
                    "ALTER TABLE billing_account ADD CONSTRAINT account_has_no_overdraft "
                    "CHECK (posted_microcredits >= held_microcredits)"
                )
            else:
                cursor.execute("PRAGMA ignore_check_constraints = OFF")
    assert reconcile() == []


def test_a_trigger_that_is_gone_is_found(acme):
    with connection.schema_editor() as editor:
        triggers.remove(editor)
    try:
        assert {violation.check for violation in reconcile()} == {TRIGGERS}
    finally:
        with connection.schema_editor() as editor:
            triggers.install(editor)


def test_every_check_is_proven_by_a_corruption():
    proven = set().union(*(checks for _, checks in CORRUPTIONS.values())) | {RANGE, TRIGGERS}
    assert proven == set(CHECKS)


def test_a_violation_names_the_row_and_both_figures(acme):
    plant(CORRUPTIONS["held credit forgotten"][0])
    [violation] = reconcile()
    assert (violation.subject, violation.expected, violation.found) == (f"account {acme.account_id}", "50", "0")


def test_a_hold_is_late_only_after_a_grace(acme):
    Hold.objects.filter(state="open").update(lease_expires_at=timezone.now() - timedelta(seconds=25))
    assert reconcile() == []
    Hold.objects.filter(state="open").update(lease_expires_at=timezone.now() - timedelta(seconds=35))
    assert found() == {LEASE}


def test_one_workspace_can_be_looked_at_alone(acme):
    rival = open_workspace(100, name="rival")
    plant(CORRUPTIONS["budget emptied"][0])
    plant(CORRUPTIONS["record deleted"][0])
    assert {violation.check for violation in reconcile(workspace_id=acme.workspace_id)} == {BUDGET_SPENT, RECORDED}
    assert reconcile(workspace_id=rival.workspace_id) == []


def test_a_budget_is_begun_by_the_clock_that_closes_its_holds(acme):
    """The machine of whoever sets a budget may be ahead of the database's."""
    budget = Budget.objects.get()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()" if connection.vendor == "postgresql" else "SELECT julianday('now')")
        [now] = cursor.fetchone()
    if connection.vendor == "sqlite":
        now = datetime(2000, 1, 1, 12, tzinfo=UTC) + timedelta(days=now - 2451545)
    assert timedelta(0) <= now - budget.period_started_at < timedelta(minutes=1)


@pytest.mark.parametrize("period", ["day", "never"])
@pytest.mark.parametrize("ahead", [timedelta(seconds=2), timedelta(hours=1), timedelta(days=40)])
def test_a_clock_that_was_ahead_when_a_period_began_makes_no_violation(period, ahead):
    subject = open_workspace(1000)
    new_budget("workspace", subject.workspace_id, 500, period=period, period_started_at=timezone.now() + ahead)
    spend(subject, 60)
    assert reconcile() == []
    budget = Budget.objects.get()
    assert (budget.spent_microcredits, budget.spent_before_microcredits) == (60, 0)


def test_what_was_spent_in_periods_before_is_known():
    subject = open_workspace(1000)
    budget = new_budget("workspace", subject.workspace_id, 500, period="day")
    for _ in range(3):
        spend(subject, 60)
        Budget.objects.update(period_started_at=F("period_started_at") - timedelta(days=1))
    spend(subject, 7)
    budget.refresh_from_db()
    assert (budget.spent_microcredits, budget.spent_before_microcredits) == (7, 180)
    assert reconcile() == []
    Budget.objects.update(spent_before_microcredits=0)
    assert found() == {BUDGET_SPENT}


def spend(subject, amount):
    async def scenario(writer):
        hold = hold_of(subject, amount + 1)
        await writer.hold(hold)
        await writer.settle(settle_of(subject, hold.generation, amount))

    with_writer(scenario)


def test_it_needs_a_snapshot_of_its_own(acme):
    with transaction.atomic(), pytest.raises(transaction.TransactionManagementError):
        reconcile()


def test_it_does_not_wait_for_writers_nor_hold_them_up(acme):
    with other_connection() as other:
        other.execute("UPDATE billing_account SET posted_microcredits = posted_microcredits + 1 WHERE kind = 'workspace'")
        assert reconcile() == []


# Of what was booked since


LONG_AGO = timedelta(days=10)


def long_ago(acme):
    """All that was booked, as if it had been booked ten days ago."""
    with without_triggers():
        for model in (Entry, Hold, UsageRecord):
            model.objects.update(created_at=F("created_at") - LONG_AGO)


@pytest.mark.slow
@pytest.mark.parametrize(("statements", "checks"), CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
def test_since_then_finds_what_it_can_prove(acme, statements, checks):
    since = timezone.now() - timedelta(days=1)
    plant(statements)
    assert {violation.check for violation in reconcile(since=since)} == checks - set(unproven(since=since))


@pytest.mark.parametrize("name", ["usage entry shrunk", "usage paid to the world", "record deleted", "receipt relabelled"])
def test_since_does_not_read_what_was_before(acme, name):
    long_ago(acme)
    plant(CORRUPTIONS[name][0])
    assert reconcile(since=timezone.now() - timedelta(days=1)) == []
    assert CORRUPTIONS[name][1] - {POSTED, LOTS, ZERO} <= {
        violation.check for violation in reconcile(since=timezone.now() - 2 * LONG_AGO)
    }


def test_a_generation_that_was_held_before_and_settled_since_is_read_as_a_whole(acme):
    since = timezone.now() - timedelta(days=1)
    with without_triggers():
        Hold.objects.update(created_at=since - LONG_AGO)
    assert reconcile(since=since) == []
    plant(CORRUPTIONS["hold settled for less"][0])
    assert {violation.check for violation in reconcile(since=since)} == {SETTLED}


def test_what_cannot_be_proven_is_named(acme):
    now = timezone.now()
    assert unproven() == []
    assert unproven(since=now) == [POSTED, LOTS, BUDGET_SPENT, ZERO]
    assert unproven(workspace_id=1) == [ZERO, TRIGGERS]
    assert unproven(workspace_id=1, since=now) == [POSTED, LOTS, BUDGET_SPENT, ZERO, TRIGGERS]


GROWING = {"h": "billing_hold", "e": "billing_entry", "u": "billing_usagerecord"}


@pytest.fixture
def crowded(acme):
    """A few thousand requests of long ago, and the statistics that a database in use has."""
    for model in (Hold, UsageRecord, Entry):
        row, rows = model.objects.get(generation="chatcmpl-settled"), []
        for number in range(4_000):
            values = {field.attname: getattr(row, field.attname) for field in model._meta.concrete_fields}
            values |= {"generation": f"chatcmpl-{number}", "created_at": row.created_at - LONG_AGO, "id": None}
            if model is Entry:
                values["idempotency_key"] = f"usage:{number}"
            rows.append(model(**values))
        model.objects.bulk_create(rows)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    yield acme
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM sqlite_stat1")


def whole_reads(check, since):
    """Which of the tables that grow with every request the query would read from end to end, or an index of them."""
    query = queries(is_bounded=since is not None)[check]
    parameters = {"workspace_id": None, "since": connection.ops.adapt_datetimefield_value(since)}
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {query}", parameters)
            scans = [
                re.match(r"SCAN (?:billing_)?([heu])(?:old|ntry|sagerecord)?\b(?!.* INDEX hold_open)", step[-1])
                for step in cursor
            ]
            return {GROWING[scan[1]] for scan in scans if scan}
        cursor.execute(f"EXPLAIN (FORMAT JSON) {query}", parameters)
        [[[top]]] = cursor.fetchall()
    return {node["Relation Name"] for node in nodes_of(top["Plan"]) if is_whole(node)}


def nodes_of(node):
    yield node
    for part in node.get("Plans", ()):
        yield from nodes_of(part)


def is_whole(node):
    if node.get("Relation Name") not in GROWING.values() or "hold_open" in node.get("Index Name", ""):
        return False
    return not {"Index Cond", "Recheck Cond"} & node.keys()


@pytest.mark.slow
def test_what_was_booked_since_is_found_by_index(crowded):
    since = timezone.now() - timedelta(days=1)
    bounded = set(CHECKS) - {POSTED, LOTS, BUDGET_SPENT, ZERO, TRIGGERS}
    assert {check: reads for check in bounded if (reads := whole_reads(check, since))} == {}
    assert all(whole_reads(check, None) for check in (POSTED, LOTS, BUDGET_SPENT, ZERO, LINES, SETTLED))


# The command


def test_the_command_says_that_the_books_balance(acme, capsys):
    call_command("reconcile_ledger")
    assert capsys.readouterr().out == "The books balance.\n"
    call_command("reconcile_ledger", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"is_balanced": True, "since": None, "violations": [], "not_proven": []}


def test_the_command_says_what_it_has_not_proven(acme, capsys):
    call_command("reconcile_ledger", "--since", "2026-11-25")
    assert capsys.readouterr().out.splitlines() == [
        "What was looked at balances.",
        *(f"Not proven: {check}." for check in (POSTED, LOTS, BUDGET_SPENT, ZERO)),
    ]
    call_command("reconcile_ledger", "--since", "2026-11-25T10:00:00+02:00", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert (answer["since"], answer["not_proven"]) == ("2026-11-25T08:00:00.000000Z", [POSTED, LOTS, BUDGET_SPENT, ZERO])


def test_the_command_finds_what_is_wrong_since(acme, capsys):
    plant(CORRUPTIONS["record deleted"][0])
    with pytest.raises(SystemExit):
        call_command("reconcile_ledger", "--since", "2001-01-01")
    assert capsys.readouterr().out.startswith(f"{RECORDED}: chatcmpl-settled: expected 60, found no record\n1 violations.\n")
    with pytest.raises(CommandError, match="--since: a date such as"):
        call_command("reconcile_ledger", "--since", "yesterday")


def test_the_command_exits_1_and_names_what_is_wrong(acme, capsys):
    plant(CORRUPTIONS["held credit forgotten"][0])
    with pytest.raises(SystemExit) as ended:
        call_command("reconcile_ledger")
    assert ended.value.code == 1
    assert capsys.readouterr().out == f"{HELD}: account {acme.account_id}: expected 50, found 0\n1 violations.\n"
    public_id = Workspace.objects.get().public_id
    with pytest.raises(SystemExit):
        call_command("reconcile_ledger", "--json", "--workspace", public_id)
    answer = json.loads(capsys.readouterr().out)
    assert answer["is_balanced"] is False
    assert answer["violations"] == [{"check": HELD, "subject": f"account {acme.account_id}", "expected": "50", "found": "0"}]


def test_the_command_knows_its_workspaces(acme):
    with pytest.raises(CommandError):
        call_command("reconcile_ledger", "--workspace", "ws_nobody")
