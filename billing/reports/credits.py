"""What a workspace has, and what one of its keys may spend and has spent."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from asgiref.sync import sync_to_async
from django.db import Error as DatabaseFault
from django.db import close_old_connections
from django.db.models import F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, JSONObject
from django.utils import timezone

from billing.errors import LedgerUnavailable
from billing.ledger.decider import period_start
from billing.models import Account, ApiKey, Budget, Membership, UsageRecord, Workspace
from billing.moments import period_end
from billing.quotas import KEY_LAYERS
from billing.reports.json_rows import JsonRows, json_moment
from infery_site.patience import in_time


class Balance(msgspec.Struct, frozen=True):
    """`held` is reserved by requests in flight; the rest of `posted` is available."""

    posted_microcredits: int
    held_microcredits: int

    @property
    def available_microcredits(self) -> int:
        return self.posted_microcredits - self.held_microcredits


class BudgetState(msgspec.Struct, frozen=True):
    """A budget in the period of now. `resets_at` is None for one that never does.

    `staff_limit_microcredits` is what staff let a workspace spend at most, None if they said nothing.
    """

    scope: str
    period: str
    limit_microcredits: int
    spent_microcredits: int
    held_microcredits: int
    started_at: datetime
    resets_at: datetime | None
    staff_limit_microcredits: int | None = None

    @property
    def left_microcredits(self) -> int:
        """Below zero where the limit was lowered below what is spent: such a budget allows nothing, not even what is free."""
        return self.limit_microcredits - self.spent_microcredits - self.held_microcredits

    @property
    def available_microcredits(self) -> int:
        return max(0, self.left_microcredits)


class Allowance(msgspec.Struct, frozen=True):
    """What a workspace could still hold, and what is left of each budget above one of its keys, in the order of the ledger."""

    available_microcredits: int
    budgets_microcredits: tuple[int, ...]


class KeySpend(msgspec.Struct, frozen=True):
    """A key, the budgets above it, and what it was charged since midnight and since the first of the month, in UTC.

    The key comes with its layers of limits (`billing.quotas.KEY_LAYERS`).
    """

    key: ApiKey
    day_microcredits: int
    month_microcredits: int
    budgets: tuple[BudgetState, ...]


# What is read of a budget; an annotation may not bear the name of a column.
_COLUMNS: Final = {
    "scope_name": "scope",
    "period_name": "period",
    "limit": "limit_microcredits",
    "spent": "spent_microcredits",
    "held": "held_microcredits",
    "started_at": "period_started_at",
    "ceiling": "ceiling_microcredits",
}


async def get_allowance(api_key_id: int) -> Allowance:
    """What the next request of a key may be held for, in one query. Raises LedgerUnavailable without a database."""
    try:
        return await in_time(sync_to_async(_allowance_in_thread, thread_sensitive=False)(api_key_id))
    except DatabaseFault as error:
        raise LedgerUnavailable from error


def _allowance_in_thread(api_key_id: int) -> Allowance:
    close_old_connections()
    try:
        return read_allowance(api_key_id)
    finally:
        close_old_connections()


def read_allowance(api_key_id: int) -> Allowance:
    keys = ApiKey.objects.filter(pk=api_key_id).annotate(budgets=_budgets_above())
    columns = ("workspace__account__posted_microcredits", "workspace__account__held_microcredits", "budgets")
    posted, held, budgets = keys.values_list(*columns).get()
    now = timezone.now()
    return Allowance(posted - held, tuple([_state_of(budget, now).left_microcredits for budget in budgets]))


def get_balance(account_id: int) -> Balance:
    return Balance(*Account.objects.values_list("posted_microcredits", "held_microcredits").get(pk=account_id))


def get_key_spend(workspace_id: int, api_key_id: int, now: datetime) -> KeySpend:
    """Raises ApiKey.DoesNotExist for a key of another workspace."""
    key = (
        ApiKey.objects.filter(workspace_id=workspace_id)
        .select_related(*KEY_LAYERS)
        .annotate(
            day=_charged_since(period_start("day", now)),
            month=_charged_since(period_start("month", now)),
            budgets=_budgets_above(),
        )
        .get(pk=api_key_id)
    )
    states = tuple(_state_of(budget, now) for budget in key.budgets)
    return KeySpend(key, key.day, key.month, states)


def _budgets_above() -> JsonRows:
    """The budgets that limit the key of the outer query: of its family, its owner and its workspace."""
    budgets = Budget.objects.filter(
        Q(scope=Budget.Scope.KEY, scope_id=Coalesce(OuterRef("family_id"), OuterRef("pk")))
        | Q(scope=Budget.Scope.MEMBER, scope_id=OuterRef("owner_id"))
        | Q(scope=Budget.Scope.WORKSPACE, scope_id=OuterRef("workspace_id"))
    )
    return JsonRows(budgets.order_by("scope", "pk").values(row=JSONObject(**_COLUMNS)))


def _charged_since(start: datetime) -> Coalesce:
    """What the key of the outer query was charged."""
    records = UsageRecord.objects.filter(api_key=OuterRef("pk"), created_at__gte=start).order_by()
    charged = records.values("api_key").annotate(charged=Sum(F("charged_microcredits"))).values("charged")
    return Coalesce(Subquery(charged), 0)


def list_budgets_above(subject: Membership | Workspace, now: datetime) -> list[BudgetState]:
    """The budgets that limit every key of a member, or of a workspace."""
    above = Q(scope=Budget.Scope.WORKSPACE, scope_id=subject.workspace_id if isinstance(subject, Membership) else subject.pk)
    if isinstance(subject, Membership):
        above |= Q(scope=Budget.Scope.MEMBER, scope_id=subject.pk)
    columns = {name: F(column) for name, column in _COLUMNS.items()}
    rows: Any = Budget.objects.filter(above).order_by("scope", "pk").values(**columns)
    return [_state(row, row["started_at"], now) for row in rows]


def _state_of(budget: dict[str, Any], now: datetime) -> BudgetState:
    return _state(budget, json_moment(budget["started_at"]), now)


def _state(budget: dict[str, Any], started_at: datetime, now: datetime) -> BudgetState:
    """The budget as the next hold would find it: what was spent in a period that is over counts no more."""
    current = period_start(budget["period_name"], now)
    is_over = current > started_at
    return BudgetState(
        budget["scope_name"],
        budget["period_name"],
        budget["limit"],
        0 if is_over else budget["spent"],
        budget["held"],
        current if is_over else started_at,
        period_end(budget["period_name"], current),
        budget["ceiling"] if budget["scope_name"] == Budget.Scope.WORKSPACE else None,
    )
