"""The entries of a workspace, the newest first, each with the balance it left behind: one query a page."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import OuterRef, Subquery

from billing.models import Account
from billing.reports.statements import StatementLine, entries_of


class Mark(NamedTuple):
    """Where a page ends: its last entry, by row id, and the balance before it. No later entry changes either."""

    entry_id: int
    balance_microcredits: int


class LedgerPage(NamedTuple):
    """`mark` is what the next page begins after, None on the last one."""

    lines: list[StatementLine]
    mark: Mark | None


def get_ledger_page(account: Account, *, since: datetime | None, limit: int, after: Mark | None = None) -> LedgerPage:
    """The newest entries since a moment, or those before a mark of the same account.

    The balance is counted back from what the account has, in the statement that reads the entries, so that one which is
    booked meanwhile is in both or in neither; and from the mark, so that no page adds up what is newer than it.
    """
    rows: Any = entries_of(account)
    if after is None:
        rows = rows.annotate(posted=Subquery(Account.objects.filter(pk=OuterRef("account_id")).values("posted_microcredits")))
    else:
        rows = rows.filter(pk__lt=after.entry_id)
    if since is not None:
        rows = rows.filter(created_at__gte=since)
    found = list(rows.order_by("-pk")[: limit + 1])
    balance = after.balance_microcredits if after is not None else found[0].posted if found else 0
    lines = []
    for entry in found[:limit]:
        amount = entry.signed_microcredits
        lines.append(
            StatementLine(
                entry.created_at, entry.kind, amount, balance, entry.generation, entry.actor, entry.reason, entry.expires_at
            )
        )
        balance -= amount
    return LedgerPage(lines, Mark(found[limit - 1].pk, balance) if len(found) > limit else None)
