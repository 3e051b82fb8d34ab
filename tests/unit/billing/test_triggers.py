"""What the database itself refuses, whoever asks."""

import pytest
from django.core import checks
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from billing.checks import ledger_triggers
from billing.ledger import triggers
from billing.models import Account, CreditLot, Entry, Hold, UsageRecord
from tests.unit.billing.books import hold_of, open_workspace, settle_of, with_writer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme():
    """A workspace with a settled and an open hold."""
    subject = open_workspace(1000)
    settled = hold_of(subject, 100, generation="chatcmpl-settled")

    async def scenario(writer):
        await writer.hold(settled)
        await writer.settle(settle_of(subject, settled.generation, 60))
        await writer.hold(hold_of(subject, 50, generation="chatcmpl-open"))

    with_writer(scenario)
    return subject


def execute(statement):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.rowcount


REFUSED = {
    "entry changed": "UPDATE billing_entry SET amount_microcredits = 1 WHERE kind = 'usage'",
    "entry relabelled": "UPDATE billing_entry SET reason = 'other'",
    "entry deleted": "DELETE FROM billing_entry WHERE kind = 'usage'",
    "hold deleted": "DELETE FROM billing_hold WHERE state = 'open'",
    "hold resized": "UPDATE billing_hold SET amount_microcredits = 40 WHERE state = 'open'",
    "hold moved to another generation": "UPDATE billing_hold SET generation = 'x' WHERE state = 'open'",
    "hold moved to another account": "UPDATE billing_hold SET account_id = account_id - 1 WHERE state = 'open'",
    "hold renumbered": "UPDATE billing_hold SET sequence = 9 WHERE state = 'open'",
    "closed hold opened again": (
        "UPDATE billing_hold SET state = 'open', settled_microcredits = 0, closed_at = NULL WHERE state = 'settled'"
    ),
    "closed hold pays more": "UPDATE billing_hold SET settled_microcredits = 90 WHERE state = 'settled'",
    "closed hold given a lease": "UPDATE billing_hold SET lease_expires_at = created_at WHERE state = 'settled'",
    "hold of an unknown state": "UPDATE billing_hold SET state = 'gone', closed_at = created_at WHERE state = 'open'",
    "entry of an unknown kind": (
        "INSERT INTO billing_entry (amount_microcredits, kind, generation, idempotency_key, actor, reason, created_at, "
        "debit_account_id, credit_account_id) SELECT 1, 'gift', '', 'new', 'ada', '', created_at, debit_account_id, "
        "credit_account_id FROM billing_entry WHERE kind = 'usage'"
    ),
    "charge of a record changed": "UPDATE billing_usagerecord SET charged_microcredits = 0",
    "lines of a record changed": "UPDATE billing_usagerecord SET lines = '[]'",
    "record moved to another workspace": "UPDATE billing_usagerecord SET workspace_id = workspace_id + 1",
    "price of a record forgotten": "UPDATE billing_usagerecord SET price_version_id = NULL",
    "record deleted": "DELETE FROM billing_usagerecord",
    "lot refilled": "UPDATE billing_creditlot SET left_microcredits = left_microcredits + 1",
    "lot put off": "UPDATE billing_creditlot SET expires_at = '2999-01-01 00:00:00+00:00'",
    "lot moved to another account": "UPDATE billing_creditlot SET account_id = account_id - 1",
    "lot deleted": "DELETE FROM billing_creditlot",
    # Constraints, as a net under the decider
    "account overdrawn": "UPDATE billing_account SET posted_microcredits = held_microcredits - 1 WHERE kind = 'workspace'",
    "account holds less than nothing": "UPDATE billing_account SET held_microcredits = -1 WHERE kind = 'workspace'",
    "lot with less than nothing": "UPDATE billing_creditlot SET left_microcredits = -1",
    "account beyond the range": "UPDATE billing_account SET posted_microcredits = 9000000000000001 WHERE kind = 'workspace'",
    "internal account cached": "UPDATE billing_account SET posted_microcredits = 1 WHERE kind = 'revenue'",
    "hold settled beyond its amount": (
        "UPDATE billing_hold SET state = 'settled', settled_microcredits = 51, closed_at = created_at WHERE state = 'open'"
    ),
    "void that pays": (
        "UPDATE billing_hold SET state = 'voided', settled_microcredits = 1, closed_at = created_at WHERE state = 'open'"
    ),
}


def rows():
    return [list(model.objects.order_by("pk").values()) for model in (Account, Hold, Entry, UsageRecord, CreditLot)]


def is_refused(statement):
    try:
        execute(statement)
    except IntegrityError:
        return True
    return False


def test_the_database_refuses(acme):
    before = rows()
    assert [name for name, statement in REFUSED.items() if not is_refused(statement)] == []
    assert rows() == before


@pytest.mark.parametrize("table", ["billing_entry", "billing_hold", "billing_usagerecord", "billing_creditlot"])
def test_no_table_of_money_can_be_truncated(acme, table):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no TRUNCATE")
    with pytest.raises(IntegrityError):
        execute(f"TRUNCATE {table} CASCADE")


def test_a_second_usage_entry_of_a_generation_is_refused(acme):
    entry = Entry.objects.get(kind="usage")
    entry.pk, entry.idempotency_key = None, "usage:again"
    with pytest.raises(IntegrityError), transaction.atomic():
        entry.save(force_insert=True)


def test_money_must_be_an_integer(acme):
    """SQLite would keep text, or a fraction, in a column of integers; PostgreSQL cannot."""
    if connection.vendor == "sqlite":
        for value in ("'many'", "0.5"):
            with pytest.raises(IntegrityError):
                execute(f"UPDATE billing_account SET posted_microcredits = {value} WHERE kind = 'workspace'")  # noqa: S608
    assert Account.objects.get(kind="workspace").posted_microcredits == 940


def test_an_open_hold_can_be_renewed_and_closed(acme):
    assert execute("UPDATE billing_hold SET lease_expires_at = created_at WHERE state = 'open'") == 1
    Hold.objects.filter(state="open").update(state="expired", closed_at=timezone.now())
    assert Hold.objects.filter(state="expired").count() == 1


# The list and the database


def test_a_migrated_database_has_every_trigger():
    assert triggers.missing(connection) == []
    assert ledger_triggers(app_configs=None, databases=["default"]) == []


def test_installing_again_changes_nothing():
    with connection.schema_editor() as editor:
        triggers.install(editor)
        triggers.install(editor)
    assert triggers.missing(connection) == []


def test_a_trigger_that_is_gone_or_off_is_missed():
    table = " ON billing_entry" if connection.vendor == "postgresql" else ""
    execute(f"DROP TRIGGER entry_no_update{table}")
    try:
        missed = ["entry_no_update"]
        if connection.vendor == "postgresql":
            execute("ALTER TABLE billing_hold DISABLE TRIGGER hold_closed")
            missed.append("hold_closed")
        assert triggers.missing(connection) == missed
        [warning] = ledger_triggers(app_configs=None, databases=["default"])
        assert (warning.id, warning.level) == ("billing.W001", checks.WARNING)
        assert "entry_no_update" in warning.msg
        call_command("check", databases=["default"], fail_level="ERROR")
    finally:
        if connection.vendor == "postgresql":
            execute("ALTER TABLE billing_hold ENABLE TRIGGER hold_closed")
        with connection.schema_editor() as editor:
            triggers.install(editor)
    assert triggers.missing(connection) == []


def test_a_trigger_of_another_wording_is_missed():
    if connection.vendor == "postgresql":
        execute(
            "CREATE OR REPLACE TRIGGER hold_no_delete BEFORE DELETE ON billing_hold FOR EACH ROW "
            "EXECUTE FUNCTION ledger_refuse('an older message')"
        )
    else:
        execute("DROP TRIGGER hold_no_delete")
        execute("CREATE TRIGGER hold_no_delete BEFORE DELETE ON billing_hold BEGIN SELECT 1; END")
    try:
        assert triggers.missing(connection) == ["hold_no_delete"]
    finally:
        with connection.schema_editor() as editor:
            triggers.install(editor)
    assert triggers.missing(connection) == []
