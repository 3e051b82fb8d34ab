"""The entries of a workspace, the newest first, each with the balance it left behind: one query a page."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import OuterRef, Subquery, Sum
from django.db.models.functions import Coalesce

from billing.models import Account
from billing.reports.statements import StatementLine, entries_of


class LedgerPage(NamedTuple):
    """`last` is the mark after which the next page begins."""

    lines: list[StatementLine]
    last: int
    has_more: bool


def get_ledger_page(account: Account, *, since: datetime | None, limit: int, after: int | None = None) -> LedgerPage:
    """The newest entries since a moment, or those before the entry `after`.

    The balance is counted back from what the account has, in the statement that reads the entries, so that one which is
    booked meanwhile is in both or in neither.
    """
    posted = Account.objects.filter(pk=OuterRef("account_id")).values("posted_microcredits")
    rows: Any = entries_of(account).annotate(posted=Subquery(posted))
    if after is not None:
        newer = entries_of(account).filter(pk__gte=after).order_by().values("is_own")
        total = newer.annotate(total=Sum("signed_microcredits")).values("total")
        rows = rows.filter(pk__lt=after).annotate(newer=Coalesce(Subquery(total), 0))
    if since is not None:
        rows = rows.filter(created_at__gte=since)
    found = list(rows.order_by("-pk")[: limit + 1])
    balance = found[0].posted - (found[0].newer if after is not None else 0) if found else 0
    lines = []
    for entry in found[:limit]:
        amount = entry.signed_microcredits
        lines.append(
            StatementLine(
                entry.created_at, entry.kind, amount, balance, entry.generation, entry.actor, entry.reason, entry.expires_at
            )
        )
        balance -= amount
    return LedgerPage(lines, found[limit - 1].pk if len(found) > limit else 0, len(found) > limit)
