"""The entries of a workspace's account in the order of the ledger, each with the balance it left behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db.models import Case, F, Q, Sum, Value, When

from billing.models import Account, Entry

_CHUNK_ROWS: Final = 2_000


class StatementLine(NamedTuple):
    """One entry as the workspace sees it: `amount_microcredits` is negative for what left it. Some credit expires."""

    created_at: datetime
    kind: str
    amount_microcredits: int
    balance_microcredits: int
    generation: str
    actor: str
    reason: str
    expires_at: datetime | None


def get_balance_before(account: Account, since: datetime) -> int:
    """The balance that the entries before `since` left: the sum of them, so statements of adjoining spans fit together."""
    total = entries_of(account).filter(created_at__lt=since).aggregate(total=Sum("signed_microcredits"))["total"]
    return int(total or 0)


def iter_statement(
    account: Account, *, since: datetime | None, until: datetime | None, opening_microcredits: int
) -> Iterator[StatementLine]:
    """The entries from `since` up to, and without, `until`; read while they are asked for, however many there are."""
    entries = entries_of(account)
    if since is not None:
        entries = entries.filter(created_at__gte=since)
    if until is not None:
        entries = entries.filter(created_at__lt=until)
    balance = opening_microcredits
    # Rows get their ids under the lock of the account, so this is the order in which the balance really moved.
    for entry in entries.order_by("pk").iterator(chunk_size=_CHUNK_ROWS):
        amount = entry.signed_microcredits
        balance += amount
        yield StatementLine(
            entry.created_at, entry.kind, amount, balance, entry.generation, entry.actor, entry.reason, entry.expires_at
        )


def entries_of(account: Account) -> Any:
    """What moved the account, with the amount as the account sees it."""
    signed = Case(When(credit_account=account, then=F("amount_microcredits")), default=-F("amount_microcredits"))
    return Entry.objects.filter(Q(debit_account=account) | Q(credit_account=account)).annotate(
        signed_microcredits=signed, account_id=Value(account.pk)
    )
