"""The rules of money rows that a constraint cannot say, as triggers on both databases.

    entry           append-only
    hold            never deleted; amount, account and generation never change; a closed hold never changes
    usage record    never deleted; charge, overrun, lines, price and owner never change
    credit lot      never deleted; whose it is and when it expires never change; what is left never rises

SQLite makes a table anew when a later migration alters it, and drops its triggers without a word. So every migration that
touches one of these tables ends with `install`, and a system check, `reconcile_ledger` and a test compare the database
with the list here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

_HOLD_IDENTITY: Final = ("id", "account_id", "api_key_id", "generation", "sequence", "amount_microcredits", "price_version_id")
_RECORD_MONEY: Final = (
    "generation",
    "workspace_id",
    "api_key_id",
    "price_version_id",
    "charged_microcredits",
    "overrun_microcredits",
    "lines",
)
_LOT_IDENTITY: Final = ("entry_id", "account_id", "expires_at")


class Trigger(NamedTuple):
    """`event` as SQL names it; `condition` on OLD and NEW, empty for always; TRUNCATE exists on PostgreSQL only."""

    name: str
    table: str
    event: str
    message: str
    condition: str = ""


def _differs(columns: tuple[str, ...], operator: str) -> str:
    return " OR ".join(f"OLD.{column} {operator} NEW.{column}" for column in columns)


def triggers(vendor: str) -> tuple[Trigger, ...]:
    """The triggers a database of this vendor must have."""
    differs = "IS DISTINCT FROM" if vendor == "postgresql" else "IS NOT"
    rules = (
        Trigger("entry_no_update", "billing_entry", "UPDATE", "an entry is never changed"),
        Trigger("entry_no_delete", "billing_entry", "DELETE", "an entry is never deleted"),
        Trigger("entry_no_truncate", "billing_entry", "TRUNCATE", "entries are never deleted"),
        Trigger("hold_closed", "billing_hold", "UPDATE", "a closed hold is never changed", "OLD.state <> 'open'"),
        Trigger(
            "hold_identity",
            "billing_hold",
            "UPDATE",
            "a hold keeps its amount and whose it is",
            _differs(_HOLD_IDENTITY, differs),
        ),
        Trigger("hold_no_delete", "billing_hold", "DELETE", "a hold is never deleted"),
        Trigger("hold_no_truncate", "billing_hold", "TRUNCATE", "holds are never deleted"),
        Trigger(
            "usage_record_money",
            "billing_usagerecord",
            "UPDATE",
            "the charge of a usage record is never changed",
            _differs(_RECORD_MONEY, differs),
        ),
        Trigger("usage_record_no_delete", "billing_usagerecord", "DELETE", "a usage record is never deleted"),
        Trigger("usage_record_no_truncate", "billing_usagerecord", "TRUNCATE", "usage records are never deleted"),
        Trigger(
            "credit_lot_only_falls",
            "billing_creditlot",
            "UPDATE",
            "a lot keeps its expiry and whose it is, and what is left of it never rises",
            f"NEW.left_microcredits > OLD.left_microcredits OR {_differs(_LOT_IDENTITY, differs)}",
        ),
        Trigger("credit_lot_no_delete", "billing_creditlot", "DELETE", "a lot is never deleted"),
        Trigger("credit_lot_no_truncate", "billing_creditlot", "TRUNCATE", "lots are never deleted"),
    )
    return tuple(rule for rule in rules if vendor == "postgresql" or rule.event != "TRUNCATE")


_POSTGRESQL_FUNCTION: Final = """
CREATE OR REPLACE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END
$$
"""


def _postgresql(rule: Trigger) -> str:
    if rule.event == "TRUNCATE":
        scope = "FOR EACH STATEMENT"
    elif rule.condition:
        scope = f"FOR EACH ROW WHEN ({rule.condition})"
    else:
        scope = "FOR EACH ROW"
    return (
        f"CREATE OR REPLACE TRIGGER {rule.name} BEFORE {rule.event} ON {rule.table} {scope} "
        f"EXECUTE FUNCTION ledger_refuse('{rule.message}')"
    )


def _sqlite(rule: Trigger) -> str:
    condition = f"WHEN {rule.condition} " if rule.condition else ""
    return (
        f"CREATE TRIGGER {rule.name} BEFORE {rule.event} ON {rule.table} FOR EACH ROW {condition}"
        f"BEGIN SELECT RAISE(ABORT, '{rule.message}'); END"
    )


def install(schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Creates or replaces every trigger of the list whose table is there. Safe to run again."""
    vendor = schema_editor.connection.vendor
    # An older migration ends with this list too, before the tables of later ones are made.
    tables = set(schema_editor.connection.introspection.table_names())
    rules = [rule for rule in triggers(vendor) if rule.table in tables]
    if vendor == "postgresql":
        schema_editor.execute(_POSTGRESQL_FUNCTION, params=None)
        for rule in rules:
            schema_editor.execute(_postgresql(rule), params=None)
    else:
        for rule in rules:
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {rule.name}", params=None)
            schema_editor.execute(_sqlite(rule), params=None)


def remove(schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Takes the triggers away: the way back of the migration that installs them."""
    vendor = schema_editor.connection.vendor
    for rule in triggers(vendor):
        table = f" ON {rule.table}" if vendor == "postgresql" else ""
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {rule.name}{table}", params=None)
    if vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION IF EXISTS ledger_refuse()", params=None)


def missing(connection: BaseDatabaseWrapper) -> list[str]:
    """Names of listed triggers that the database lacks, has switched off, or has in another version."""
    vendor = connection.vendor
    with connection.cursor() as cursor:
        if vendor == "postgresql":
            cursor.execute(
                "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('O', 'A')"
            )
        else:
            cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        found = dict(cursor.fetchall())
    return [rule.name for rule in triggers(vendor) if not _is_as_listed(rule, found.get(rule.name, ""), vendor)]


def _is_as_listed(rule: Trigger, definition: str, vendor: str) -> bool:
    if vendor != "postgresql":
        return definition == _sqlite(rule)
    # PostgreSQL words a definition its own way; the message stands for its version.
    return f" BEFORE {rule.event} ON " in definition and definition.endswith(f"ledger_refuse('{rule.message}')")
