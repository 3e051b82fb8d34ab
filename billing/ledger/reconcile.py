"""Proves the ledger's promises from the rows alone, in one snapshot, and names what breaks them.

It reads and never repairs: a violation is a bug or a hand in the database, and people decide what to do about it. It
holds no lock that a writer waits for.

What was booked long ago and proven then need not be read again: with `since`, only holds, entries and records made since
are, by index, with whatever belongs to their generations. Sums over all time cannot be proven so; `unproven` names them.
No check compares times but those of leases, so a clock that jumped makes no violation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import msgspec
from django.db import connection, transaction
from django.db.models import QuerySet

from billing import audit
from billing.ledger import triggers
from billing.models import AuditEvent, Workspace

LEASE_GRACE_S: Final = 30
_RECONCILED: Final = "ledger.reconciled"


class Violation(msgspec.Struct, frozen=True):
    """`subject` names the row; `expected` is what the other rows say, `found` what it says itself."""

    check: str
    subject: str
    expected: str
    found: str


# Each query gives subject, expected and found of every row that breaks its check. `{...}` is a dialect's wording, or what
# bounds the rows; SQLite joins in the order of a CROSS JOIN. The first asks for the time, which goes on while the snapshot stays:
_OF_THIS_MOMENT: Final = {
    "no hold stays open past its lease": """
        SELECT h.generation || '/' || h.sequence, 'closed', 'open since ' || h.created_at
        FROM billing_hold h JOIN billing_account a ON a.id = h.account_id
        WHERE h.state = 'open' AND h.lease_expires_at < {grace_ago} AND {in_scope}
    """,
}
# Those that need every row there ever was:
_OF_ALL_TIME: Final = {
    "posted is the sum of the entries": """
        SELECT 'account ' || a.id, COALESCE(e.total, 0), a.posted_microcredits
        FROM billing_account a LEFT JOIN (
          SELECT account_id, SUM(amount) AS total FROM (
            SELECT credit_account_id AS account_id, amount_microcredits AS amount FROM billing_entry
            UNION ALL SELECT debit_account_id, -amount_microcredits FROM billing_entry) moves
          GROUP BY account_id) e ON e.account_id = a.id
        WHERE a.kind = 'workspace' AND a.posted_microcredits <> COALESCE(e.total, 0) AND {in_scope}
    """,
    "what is left of the lots is the sum of the entries they show": """
        SELECT 'account ' || a.id, COALESCE(e.total, 0), COALESCE(l.total, 0)
        FROM billing_account a LEFT JOIN (
          SELECT account_id, SUM(amount) AS total FROM (
            SELECT c.id AS account_id, e.amount_microcredits AS amount
            FROM billing_entry e JOIN billing_account c ON c.id = e.credit_account_id WHERE e.id <= c.lots_as_of_entry
            UNION ALL SELECT d.id, -e.amount_microcredits
            FROM billing_entry e JOIN billing_account d ON d.id = e.debit_account_id WHERE e.id <= d.lots_as_of_entry) moves
          GROUP BY account_id) e ON e.account_id = a.id
        LEFT JOIN (SELECT account_id, SUM(left_microcredits) AS total FROM billing_creditlot GROUP BY account_id) l
          ON l.account_id = a.id
        WHERE a.kind = 'workspace' AND COALESCE(l.total, 0) <> COALESCE(e.total, 0) AND {in_scope}
    """,
    "a budget has spent what its holds paid": """
        SELECT 'budget ' || b.id, COALESCE(c.paid, 0), b.spent_before_microcredits + b.spent_microcredits
        FROM billing_budget b LEFT JOIN (
          SELECT {budget_id} AS budget_id, SUM(h.settled_microcredits) AS paid
          FROM billing_hold h CROSS JOIN {budget_ids} GROUP BY {budget_id}) c ON c.budget_id = b.id
        WHERE b.spent_before_microcredits + b.spent_microcredits <> COALESCE(c.paid, 0) AND {budget_in_scope}
    """,
}
# Of all workspaces together, and so of all time as well.
_OF_ALL_ACCOUNTS: Final = {
    "all accounts sum to zero": """
        SELECT 'all accounts', 0, total FROM (
          SELECT (SELECT COALESCE(SUM(posted_microcredits), 0) FROM billing_account WHERE kind = 'workspace')
            + (SELECT COALESCE(SUM(e.amount_microcredits), 0)
               FROM billing_entry e JOIN billing_account a ON a.id = e.credit_account_id WHERE a.kind <> 'workspace')
            - (SELECT COALESCE(SUM(e.amount_microcredits), 0)
               FROM billing_entry e JOIN billing_account a ON a.id = e.debit_account_id WHERE a.kind <> 'workspace') AS total
        ) s WHERE total <> 0
    """,
}
_OF_A_SPAN: Final = {
    "held is the sum of the open holds": """
        SELECT 'account ' || a.id, COALESCE(h.total, 0), a.held_microcredits
        FROM billing_account a LEFT JOIN (
          SELECT account_id, SUM(amount_microcredits) AS total FROM billing_hold WHERE state = 'open' GROUP BY account_id
        ) h ON h.account_id = a.id
        WHERE a.held_microcredits <> COALESCE(h.total, 0) AND {in_scope}
    """,
    "held is from nothing to posted": """
        SELECT 'account ' || a.id, a.posted_microcredits, a.held_microcredits
        FROM billing_account a
        WHERE a.kind = 'workspace' AND NOT (a.held_microcredits BETWEEN 0 AND a.posted_microcredits) AND {in_scope}
    """,
    "each credit has its lot, with at most what it gave": """
        SELECT 'entry ' || e.id, 'a lot with at most ' || e.amount_microcredits,
          COALESCE('a lot with ' || l.left_microcredits || ' until ' || COALESCE(CAST(l.expires_at AS text), 'ever'), 'no lot')
        FROM billing_account a CROSS JOIN billing_entry e
        LEFT JOIN billing_creditlot l ON l.entry_id = e.id AND l.account_id = a.id
        WHERE e.credit_account_id = a.id AND a.kind = 'workspace' AND {entry_since} AND {in_scope} AND (l.entry_id IS NULL OR l.left_microcredits > e.amount_microcredits
          OR l.expires_at <> e.expires_at OR (l.expires_at IS NULL) <> (e.expires_at IS NULL))
    """,
    "the holds of a generation settle its usage entry": """
        SELECT generation, SUM(settled), SUM(entered) FROM (
          SELECT h.generation, h.settled_microcredits AS settled, 0 AS entered
          FROM {recent} billing_hold h JOIN billing_account a ON a.id = h.account_id WHERE {in_scope} {of_recent_hold}
          UNION ALL SELECT e.generation, 0, e.amount_microcredits
          FROM {recent} billing_entry e JOIN billing_account a ON a.id = e.debit_account_id
          WHERE e.kind = 'usage' AND {in_scope} {of_recent_entry}
        ) both_sides GROUP BY generation HAVING SUM(settled) <> SUM(entered)
    """,
    "a charge is at most what its generation held": """
        SELECT e.generation, COALESCE(SUM(h.amount_microcredits), 0), e.amount_microcredits
        FROM billing_account a CROSS JOIN billing_entry e
        LEFT JOIN billing_hold h ON h.generation = e.generation
        WHERE e.debit_account_id = a.id AND e.kind = 'usage' AND {entry_since} AND {in_scope}
        GROUP BY e.id, e.generation, e.amount_microcredits
        HAVING e.amount_microcredits > COALESCE(SUM(h.amount_microcredits), 0)
    """,
    "a usage entry goes from the account of its hold to revenue": """
        SELECT e.generation, 'account ' || h.account_id || ' to revenue', 'account ' || a.id || ' to ' || c.kind
        FROM billing_account a CROSS JOIN billing_entry e
        JOIN billing_account c ON c.id = e.credit_account_id JOIN billing_hold h ON h.id = e.hold_id
        WHERE e.debit_account_id = a.id AND e.kind = 'usage' AND (h.account_id <> a.id OR c.kind <> 'revenue' OR h.generation <> e.generation)
          AND {entry_since} AND {in_scope}
    """,
    "a usage entry has a usage record of the same charge": """
        SELECT e.generation, e.amount_microcredits, COALESCE(CAST(u.charged_microcredits AS text), 'no record')
        FROM billing_account a CROSS JOIN billing_entry e
        LEFT JOIN billing_usagerecord u ON u.generation = e.generation AND u.workspace_id = a.workspace_id
        WHERE e.debit_account_id = a.id AND e.kind = 'usage' AND (u.id IS NULL OR u.charged_microcredits <> e.amount_microcredits)
          AND {entry_since} AND {in_scope}
    """,
    "a charged usage record has a usage entry": """
        SELECT u.generation, u.charged_microcredits, 'no entry'
        FROM billing_workspace w CROSS JOIN billing_usagerecord u
        WHERE u.workspace_id = w.id AND u.charged_microcredits <> 0 AND {record_since} AND {workspace_in_scope} AND NOT EXISTS (
          SELECT 1 FROM billing_entry e WHERE e.generation = u.generation AND e.kind = 'usage')
    """,
    "the lines of a receipt sum to its charge": """
        SELECT u.generation, u.charged_microcredits, {sum_of_lines}
        FROM billing_workspace w CROSS JOIN billing_usagerecord u
        WHERE u.workspace_id = w.id AND {sum_of_lines} <> u.charged_microcredits AND {record_since} AND {workspace_in_scope}
    """,
    "a budget holds what its open holds hold": """
        SELECT 'budget ' || b.id, COALESCE(c.held, 0), b.held_microcredits
        FROM billing_budget b LEFT JOIN (
          SELECT {budget_id} AS budget_id, SUM(h.amount_microcredits) AS held
          FROM billing_hold h CROSS JOIN {budget_ids} WHERE h.state = 'open' GROUP BY {budget_id}) c ON c.budget_id = b.id
        WHERE b.held_microcredits <> COALESCE(c.held, 0) AND {budget_in_scope}
    """,
}
_TRIGGERS: Final = "the triggers are as listed"
_QUERIES: Final = _OF_THIS_MOMENT | _OF_ALL_TIME | _OF_ALL_ACCOUNTS | _OF_A_SPAN
CHECKS: Final = (*_QUERIES, _TRIGGERS)

_SCOPES: Final = {
    "in_scope": "(%(workspace_id)s IS NULL OR a.workspace_id = %(workspace_id)s)",
    "workspace_in_scope": "(%(workspace_id)s IS NULL OR w.id = %(workspace_id)s)",
    "budget_in_scope": """(%(workspace_id)s IS NULL OR (b.scope = 'workspace' AND b.scope_id = %(workspace_id)s)
  OR (b.scope = 'key' AND b.scope_id IN (SELECT id FROM billing_apikey WHERE workspace_id = %(workspace_id)s))
  OR (b.scope = 'member' AND b.scope_id IN (SELECT id FROM billing_membership WHERE workspace_id = %(workspace_id)s)))""",
}
# Generations of which anything was booked since.
_RECENT: Final = """
  (SELECT h.generation FROM billing_account a CROSS JOIN billing_hold h
   WHERE h.account_id = a.id AND h.created_at >= %(since)s AND {in_scope}
   UNION SELECT e.generation FROM billing_account a CROSS JOIN billing_entry e
   WHERE e.debit_account_id = a.id AND e.kind = 'usage' AND e.created_at >= %(since)s AND {in_scope}) recent CROSS JOIN"""
_BOUNDS: Final = {
    "entry_since": "e.created_at >= %(since)s",
    "record_since": "u.created_at >= %(since)s",
    "recent": _RECENT.format_map(_SCOPES),
    "of_recent_hold": "AND h.generation = recent.generation",
    "of_recent_entry": "AND e.generation = recent.generation",
}
_NO_BOUNDS: Final = {"entry_since": "TRUE", "record_since": "TRUE", "recent": "", "of_recent_hold": "", "of_recent_entry": ""}
_DIALECTS: Final = {
    "sqlite": {
        "sum_of_lines": """(SELECT COALESCE(SUM(json_extract(line.value, '$.amount_microcredits')), 0)
          FROM json_each(u.lines) line)""",
        "budget_ids": "json_each(h.budget_ids) j",
        "budget_id": "j.value",
        "grace_ago": f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-{LEASE_GRACE_S} seconds')",
    },
    "postgresql": {
        "sum_of_lines": """(SELECT COALESCE(SUM((line->>'amount_microcredits')::bigint), 0)
          FROM jsonb_array_elements(u.lines) line)""",
        "budget_ids": "jsonb_array_elements_text(h.budget_ids) j(id)",
        "budget_id": "j.id::bigint",
        "grace_ago": f"clock_timestamp() - interval '{LEASE_GRACE_S} seconds'",
    },
}


def queries(*, is_bounded: bool) -> dict[str, str]:
    """The query of each check, on the engine of this connection; bounded ones read by index what was booked since."""
    bounds = _BOUNDS if is_bounded else _NO_BOUNDS
    wording = {**_SCOPES, **bounds, **_DIALECTS[connection.vendor]}
    return {check: query.format_map(wording) for check, query in _QUERIES.items()}


def unproven(*, workspace_id: int | None = None, since: datetime | None = None) -> list[str]:
    """The checks that `reconcile` cannot make of one workspace, or of what was booked since."""
    left_out = () if since is None else (*_OF_ALL_TIME, *_OF_ALL_ACCOUNTS)
    of_all = () if workspace_id is None else (*_OF_ALL_ACCOUNTS, _TRIGGERS)
    return [check for check in CHECKS if check in left_out or check in of_all]


def prove(*, actor: str, workspace: Workspace | None = None, since: datetime | None = None) -> list[Violation]:
    """`reconcile`, with what came out of it in the audit trail: staff are told when it was not done for a day."""
    begun_s = time.monotonic()
    violations = reconcile(workspace_id=workspace.pk if workspace else None, since=since)
    details = {
        "violations": len(violations),
        "since": since.isoformat() if since else None,
        "took_s": math.ceil(time.monotonic() - begun_s),
    }
    audit.record(_RECONCILED, actor=actor, workspace=workspace, details=details)
    return violations


def proofs() -> QuerySet[AuditEvent]:
    """What `prove` wrote of the books of all workspaces, the newest first, whatever the clock was; `since` in its details is None of all time."""
    return AuditEvent.objects.filter(action=_RECONCILED, workspace__isnull=True).order_by("-pk")


def last_finding() -> AuditEvent | None:
    """The newest proof that found something, until one of all time has found nothing since: a smaller one undoes nothing."""
    found = proofs().filter(details__violations__gt=0).first()
    clean = proofs().filter(details__violations=0, details__since=None).first()
    return None if found is None or (clean is not None and clean.pk > found.pk) else found


def reconcile(*, workspace_id: int | None = None, since: datetime | None = None) -> list[Violation]:
    """Every violation in the database, or in one workspace, or of what was booked since.

    Must be called outside of a transaction.
    """
    left_out = unproven(workspace_id=workspace_id, since=since)
    parameters = {"workspace_id": workspace_id, "since": connection.ops.adapt_datetimefield_value(since)}
    violations: list[Violation] = []
    with _snapshot(), connection.cursor() as cursor:
        for check, query in queries(is_bounded=since is not None).items():
            if check in left_out:
                continue
            cursor.execute(query, parameters)
            violations += [Violation(check, *(str(value) for value in row)) for row in cursor.fetchall()]
        if _TRIGGERS not in left_out:
            violations += [
                Violation(_TRIGGERS, f"trigger {name}", "present", "missing, off or different")
                for name in triggers.missing(connection)
            ]
    return violations


@contextmanager
def _snapshot() -> Iterator[None]:
    """A transaction that sees one moment and takes no lock. Django's own would take SQLite's write lock."""
    if connection.in_atomic_block:
        raise transaction.TransactionManagementError("reconcile takes a snapshot of its own")
    if connection.vendor == "postgresql":
        with transaction.atomic():
            _execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
        return
    _execute("BEGIN")
    try:
        yield
    finally:
        _execute("ROLLBACK")


def _execute(statement: str, parameters: dict[str, Any] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
