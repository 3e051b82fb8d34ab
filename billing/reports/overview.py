"""The business at a glance, for staff: what was used, sold and held within a period, over all workspaces.

A few queries whatever the tables hold: what is added up over requests is read by the index of their time, everything else by
small indices. Percentiles are those of the newest requests of the period. Amounts are microcredits.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CharField, Count, F, Func, Q, Sum
from django.db.models.functions import Coalesce

from billing.models import Account, CreditLot, CreditOrder, Entry, Hold, UsageDay, UsageRecord, Workspace
from billing.moments import Span
from billing.reports.summing import Figures, summed
from billing.rollups import SUMS_OF_RECORDS, prefixed

SAMPLE_MOST: Final = 2000
LEASE_GRACE: Final = timedelta(seconds=30)


class Period(msgspec.Struct, frozen=True):
    """A span back from now, and the step of its charts: `key_length` characters of a moment's text name one."""

    name: str
    title: str
    span: timedelta
    step: timedelta
    key_length: int


PERIODS: Final = {
    period.name: period
    for period in (
        Period("24h", "24 hours", timedelta(hours=24), timedelta(hours=1), len("2026-11-28 10")),
        Period("7d", "7 days", timedelta(days=7), timedelta(days=1), len("2026-11-28")),
        Period("30d", "30 days", timedelta(days=30), timedelta(days=1), len("2026-11-28")),
    )
}


class Cell(msgspec.Struct, frozen=True):
    """One model in one step of time. `model` is empty for requests that no model served."""

    key: str
    model: str
    requests: int
    failed: int
    charged: int
    overrun: int
    first_token_sum_ms: int
    first_token_count: int


class Overview(msgspec.Struct, frozen=True):
    """`sold` and `given` came in within the period; balances, holds and what waits are as of now."""

    period: str
    start: datetime
    now: datetime
    keys: list[str]
    cells: list[Cell]
    first_token_median_ms: int | None
    first_token_p95_ms: int | None
    sold: int
    given: int
    balance: int
    held: int
    open_holds: int
    overdue_holds: int
    waiting_orders: int
    suspended: int

    @property
    def requests(self) -> int:
        return sum(cell.requests for cell in self.cells)

    @property
    def failed(self) -> int:
        return sum(cell.failed for cell in self.cells)

    @property
    def charged(self) -> int:
        return sum(cell.charged for cell in self.cells)

    @property
    def overrun(self) -> int:
        return sum(cell.overrun for cell in self.cells)


class _Key(Func):
    """The first characters of a moment in UTC, such as `2026-11-28 10`, as the same text on both engines."""

    output_field = CharField()

    def __init__(self, length: int) -> None:
        super().__init__(F("created_at"))
        self._length = length

    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> tuple[str, Any]:
        return super().as_sql(compiler, connection, template=f"substr(%(expressions)s, 1, {self._length})", **context)

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> tuple[str, Any]:
        template = f"left(to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24'), {self._length})"
        return super().as_sql(compiler, connection, template=template, **context)


def get_overview(period: Period, now: datetime) -> Overview:
    start = _floor(now - period.span + period.step, period)
    within = UsageRecord.objects.filter(created_at__gte=start)
    first_tokens = _first_tokens(within)
    came = dict(
        CreditLot.objects.filter(entry__created_at__gte=start)
        .values_list("entry__kind")
        .annotate(sum=Sum("entry__amount_microcredits"))
    )
    holds = Hold.objects.filter(state=Hold.State.OPEN).aggregate(
        count=Count("pk"), sum=Sum("amount_microcredits"), overdue=Count("pk", filter=Q(lease_expires_at__lt=now - LEASE_GRACE))
    )
    return Overview(
        period=period.name,
        start=start,
        now=now,
        keys=_keys(start, now, period),
        cells=_cells(within, Span(start, now + timedelta(microseconds=1)), period),
        first_token_median_ms=_percentile(first_tokens, 50),
        first_token_p95_ms=_percentile(first_tokens, 95),
        sold=came.get(Entry.Kind.TOP_UP, 0),
        given=sum(came.get(kind, 0) for kind in (Entry.Kind.GRANT, Entry.Kind.PLAN)),
        balance=Account.objects.filter(kind=Account.Kind.WORKSPACE).aggregate(sum=Coalesce(Sum("posted_microcredits"), 0))[
            "sum"
        ],
        held=holds["sum"] or 0,
        open_holds=holds["count"],
        overdue_holds=holds["overdue"],
        waiting_orders=CreditOrder.objects.filter(state=CreditOrder.State.OPEN).count(),
        suspended=Workspace.objects.filter(state=Workspace.State.SUSPENDED).count(),
    )


def _cells(within: Any, span: Span, period: Period) -> list[Cell]:
    """Days that are over come from what was added up of them, so a month costs hardly more than a day."""
    if period.step >= timedelta(days=1):
        found = summed(UsageRecord.objects.all(), UsageDay.objects.all(), span, {"model": F("model_used")}, by_day=True)
        cells = [_cell(str(one.day), one.labels["model"], one.figures) for one in found]
        return sorted(cells, key=lambda cell: (cell.key, cell.model))
    rows = within.annotate(key=_Key(period.key_length)).values_list("key", "model_used")
    sums = rows.annotate(**prefixed({name: SUMS_OF_RECORDS[name] for name in Figures._fields}))
    return [_cell(key, model, Figures._make(figures)) for key, model, *figures in sums.order_by("key", "model_used")]


def _cell(key: str, model: str, figures: Figures) -> Cell:
    return Cell(
        key,
        model,
        figures.requests,
        figures.failed_requests,
        figures.charged_microcredits,
        figures.overrun_microcredits,
        figures.first_token_sum_ms,
        figures.first_token_count,
    )


def _first_tokens(within: Any) -> list[int]:
    """Of the newest requests that had one, sorted."""
    newest = within.order_by("-created_at").values_list("first_token_ms", flat=True)[:SAMPLE_MOST]
    return sorted(value for value in newest if value is not None)


def _percentile(values: Sequence[int], share: int) -> int | None:
    if len(values) < 2:
        return values[0] if values else None
    return round(statistics.quantiles(values, n=100, method="inclusive")[share - 1])


def _floor(moment: datetime, period: Period) -> datetime:
    hour = moment.hour if period.step < timedelta(days=1) else 0
    return moment.replace(hour=hour, minute=0, second=0, microsecond=0)


def _keys(start: datetime, now: datetime, period: Period) -> list[str]:
    """The name of every step, also of those without a request."""
    steps = int((now - start) / period.step) + 1
    return [f"{start + number * period.step:%Y-%m-%d %H}"[: period.key_length] for number in range(steps)]
