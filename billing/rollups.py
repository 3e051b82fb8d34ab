"""Adds up the requests of each day that is over, once, so that pages add up days and not requests (`billing.reports.usage`).

Days are added up in their order, each in one transaction: whatever is there up to a workspace's last day is whole. The
records are read before anything is written, so nothing waits for a day with many of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, Max, Q, Sum
from django.db.models.functions import Coalesce

from billing.models import EndUserDay, UsageDay, UsageRecord
from billing.models.days import DaySums

# A request is recorded by the clock of the database, and its transaction takes its time.
CLOSED_AFTER: Final = timedelta(hours=1)
DAYS_AT_ONCE: Final = 10

_SUMMED: Final = (
    *("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens"),
    *("charged_microcredits", "overrun_microcredits"),
)
SUMS_OF_RECORDS: Final[dict[str, Any]] = {
    "requests": Count("pk"),
    "failed_requests": Count("pk", filter=Q(status__gte=400)),
    **{name: Coalesce(Sum(name), 0) for name in _SUMMED},
    "first_token_sum_ms": Coalesce(Sum("first_token_ms"), 0),
    "first_token_count": Count("first_token_ms"),
}
SUMS_OF_DAYS: Final[dict[str, Any]] = {name: Coalesce(Sum(name), 0) for name in SUMS_OF_RECORDS}
"""The figures of a day, of its records and of days."""


def prefixed(sums: dict[str, Any]) -> dict[str, Any]:
    """As they are asked for: a sum may not bear the name of its column."""
    return {f"sum_{name}": value for name, value in sums.items()}


def roll_up(now: datetime) -> int:
    """How many days were added up: the oldest that were not, at most a few of them. `now` is the database's clock."""
    last = (now - CLOSED_AFTER).astimezone(UTC).date() - timedelta(days=1)
    newest = UsageDay.objects.aggregate(newest=Max("day"))["newest"]
    done = 0
    while done < DAYS_AT_ONCE and (day := _next_day(newest)) is not None and day <= last:
        _add_up(day)
        newest, done = day, done + 1
    return done


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _next_day(newest: date | None) -> date | None:
    """The first day after `newest` that has requests."""
    records = UsageRecord.objects.order_by("created_at")
    if newest is not None:
        records = records.filter(created_at__gte=midnight(newest + timedelta(days=1)))
    first = records.values_list("created_at", flat=True).first()
    return None if first is None else first.astimezone(UTC).date()


def _add_up(day: date) -> None:
    records = UsageRecord.objects.filter(created_at__gte=midnight(day), created_at__lt=midnight(day + timedelta(days=1)))
    by_key = list(_rows(UsageDay, day, records, "api_key_id", "model_used"))
    by_user = list(_rows(EndUserDay, day, records, "end_user"))
    with transaction.atomic():
        UsageDay.objects.bulk_create(by_key, batch_size=500)
        EndUserDay.objects.bulk_create(by_user, batch_size=500)


def _rows(table: type[DaySums], day: date, records: Any, *labels: str) -> Iterable[Any]:
    sums = prefixed(SUMS_OF_RECORDS)
    for row in records.values("workspace_id", *labels).annotate(**sums).order_by():
        yield table(day=day, **{name.removeprefix("sum_"): value for name, value in row.items()})
