"""Books that balance are clean; each planted corruption is found, and named."""

import json
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from billing.ledger import reconcile as module
from billing.ledger import triggers
from billing.ledger.reconcile import reconcile
from billing.models import Budget, Hold, Workspace
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
BUDGET_SPENT = "a budget has spent what its holds paid in the period"
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
    assert proven == {*module._CHECKS, TRIGGERS}


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


def test_a_budget_counts_only_its_period(acme):
    Budget.objects.update(period_started_at=timezone.now() + timedelta(seconds=5), spent_microcredits=0)
    assert reconcile() == []


def test_it_needs_a_snapshot_of_its_own(acme):
    with transaction.atomic(), pytest.raises(transaction.TransactionManagementError):
        reconcile()


def test_it_does_not_wait_for_writers_nor_hold_them_up(acme):
    with other_connection() as other:
        other.execute("UPDATE billing_account SET posted_microcredits = posted_microcredits + 1 WHERE kind = 'workspace'")
        assert reconcile() == []


# The command


def test_the_command_says_that_the_books_balance(acme, capsys):
    call_command("reconcile_ledger")
    assert capsys.readouterr().out == "The books balance.\n"
    call_command("reconcile_ledger", "--json")
    assert json.loads(capsys.readouterr().out) == {"is_balanced": True, "violations": []}


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
