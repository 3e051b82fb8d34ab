"""The balance of a workspace by what it is of: plan credits, grants that expire, and what never expires.

The three are the balance. They say what is left as if nothing were running: what requests hold is part of it. Credit past
its expiry is part of it too until its expiry is booked, which is within a pass of housekeeping, or when the request ends
that holds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec
from django.db.models import Subquery, Sum
from django.db.models.functions import Coalesce, JSONObject

from billing.ledger.lotbook import brought_up_to_date
from billing.ledger.lots import Lot
from billing.models import Account, CreditLot, Entry
from billing.renewals import next_renewal
from billing.reports.credits import Balance
from billing.reports.json_rows import JsonRows, json_moment

# What never expires is one lot here: nothing tells its parts apart but their order among themselves.
_EVER = 0


class Bucket(msgspec.Struct, frozen=True):
    """Credit that expires, and when the first of it does; None where nothing of it is left to expire."""

    left_microcredits: int
    expires_at: datetime | None


class PlanTerms(msgspec.Struct, frozen=True):
    """What the plan gave last and when it gives again; None for never. What is left may roll over, up to a maximum."""

    granted_microcredits: int | None
    renews_at: datetime | None
    has_rollover: bool
    max_rollover_microcredits: int | None


class Buckets(msgspec.Struct, frozen=True):
    """`first` is the credit that expires next, of whatever bucket."""

    balance: Balance
    plan: Bucket
    terms: PlanTerms
    grants: Bucket
    top_ups_microcredits: int
    first: Bucket


def get_buckets(account_id: int, now: datetime) -> Buckets:
    """One query; two more while an expiry is not booked yet."""
    # By its number and not as the row of the statement: of any account the database would expect half of all entries.
    own = CreditLot.objects.filter(account_id=account_id, left_microcredits__gt=0)
    columns = {"id": "entry_id", "kind": "entry__kind", "left": "left_microcredits", "expires_at": "expires_at"}
    of_ever = own.filter(expires_at__isnull=True).order_by().values("account_id").annotate(left=Sum("left_microcredits"))
    given = Entry.objects.filter(credit_account_id=account_id, kind=Entry.Kind.PLAN).order_by("-created_at", "-pk")
    account = (
        Account.objects.select_related("workspace__plan")
        .annotate(
            expiring=JsonRows(own.filter(expires_at__isnull=False).values(row=JSONObject(**columns))),
            ever=Coalesce(Subquery(of_ever.values("left")), 0),
            given=Subquery(given.values("amount_microcredits")[:1]),
        )
        .get(pk=account_id)
    )
    kinds = {row["id"]: row["kind"] for row in account.expiring}
    written = [Lot(row["id"], row["left"], json_moment(row["expires_at"])) for row in account.expiring]
    lots = brought_up_to_date([*written, Lot(_EVER, account.ever)], account, now)
    of_plan = [lot for lot in lots if kinds.get(lot.id) == Entry.Kind.PLAN]
    of_grants = [lot for lot in lots if lot.id != _EVER and kinds[lot.id] != Entry.Kind.PLAN]
    first = _bucket(lots, now).expires_at
    return Buckets(
        Balance(account.posted_microcredits, account.held_microcredits),
        _bucket(of_plan, now),
        _terms(account),
        _bucket(of_grants, now),
        sum(lot.left for lot in lots if lot.id == _EVER),
        Bucket(sum(lot.left for lot in lots if first is not None and lot.expires_at == first), first),
    )


def _bucket(lots: Iterable[Lot], now: datetime) -> Bucket:
    lots = list(lots)
    ends = [lot.expires_at for lot in lots if lot.left and lot.expires_at is not None and not lot.is_over(now)]
    return Bucket(sum(lot.left for lot in lots), min(ends, default=None))


def _terms(account: Account) -> PlanTerms:
    workspace = account.workspace
    if workspace is None:
        raise AssertionError("credit is spent from the accounts of workspaces only")
    plan = workspace.plan
    return PlanTerms(
        account.given,  # type: ignore[attr-defined]
        next_renewal(workspace),
        plan is not None and plan.has_rollover,
        None if plan is None else plan.max_rollover_microcredits,
    )
