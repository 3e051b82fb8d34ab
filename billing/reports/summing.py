"""The requests of a span added up: days that are over from what `billing.rollups` made of them, the rest one by one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from operator import add
from typing import Any, NamedTuple

from django.db.models import Case, F, Max, Q, QuerySet, Value, When

from billing.models import UsageRecord
from billing.moments import Span
from billing.rollups import SUMS_OF_DAYS, SUMS_OF_RECORDS, midnight, prefixed


class Figures(NamedTuple):
    """What requests add up to, as `billing.rollups` names it. First tokens are of those that had one."""

    requests: int
    failed_requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    audio_tokens: int
    reasoning_tokens: int
    charged_microcredits: int
    overrun_microcredits: int
    first_token_sum_ms: int
    first_token_count: int


class Sums(NamedTuple):
    """`day` is None where days were not asked for."""

    labels: dict[str, Any]
    day: date | None
    figures: Figures


def summed(
    records: QuerySet[UsageRecord],
    days: QuerySet[Any] | None,
    span: Span,
    labels: dict[str, Any],
    *,
    by_day: bool = False,
) -> list[Sums]:
    """By labels and, if asked, by day (UTC). `days` are those that hold what `records` do; None where there are none such.

    Three queries at most: up to which day there are some, these, and the requests around them. Without a whole day in the
    span one.
    """
    table, rest = _parts(days, span)
    asked: list[tuple[QuerySet[Any], dict[str, Any], dict[str, Any]]]
    asked = [(records.filter(rest), {"_day": _day_within(span)} if by_day else {}, SUMS_OF_RECORDS)]
    if table is not None:
        asked.append((table, {"_day": F("day")} if by_day else {}, SUMS_OF_DAYS))
    found: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for rows, day, sums in asked:
        for at, figures in _rows(rows, labels | day, prefixed({name: sums[name] for name in Figures._fields})):
            before = found.get(at)
            found[at] = figures if before is None else tuple(map(add, before, figures))
    return [
        Sums(dict(zip(labels, at, strict=False)), at[-1] if by_day else None, Figures._make(figures))
        for at, figures in found.items()
    ]


def _parts(days: QuerySet[Any] | None, span: Span) -> tuple[QuerySet[Any] | None, Q]:
    """The days within the span that are whole and added up, and which requests are not in them."""
    first, end = _first_whole_day(span.start), span.end.astimezone(UTC).date()
    whole = Q(created_at__gte=span.start, created_at__lt=span.end)
    if days is None or first >= end:
        return None, whole
    table = days.filter(day__gte=first, day__lt=end)
    last = table.aggregate(last=Max("day"))["last"]
    if last is None:
        return None, whole
    table = table.filter(day__lte=last)  # another may be added up before it is read
    after = Q(created_at__gte=midnight(last + timedelta(days=1)), created_at__lt=span.end)
    if midnight(first) == span.start:
        return table, after
    return table, Q(created_at__gte=span.start, created_at__lt=midnight(first)) | after


def _day_within(span: Span) -> Case:
    """The day (UTC) of a request of the span, the newest tried first: what is not added up is of the newest.

    SQLite cuts no time to its day by itself, and asks Python for each row.
    """
    last = span.end.astimezone(UTC).date()
    days = [last - timedelta(days=back) for back in range((last - span.start.astimezone(UTC).date()).days + 1)]
    return Case(*(When(created_at__gte=midnight(day), then=Value(day)) for day in days))


def _first_whole_day(start: datetime) -> date:
    day = start.astimezone(UTC).date()
    return day if midnight(day) == start else day + timedelta(days=1)


def _rows(
    rows: QuerySet[Any], labels: dict[str, Any], sums: dict[str, Any]
) -> Iterable[tuple[tuple[Any, ...], tuple[int, ...]]]:
    """Values of the labels and of the sums."""
    if not labels:
        total = rows.aggregate(**sums)
        return [((), tuple(total[name] for name in sums))]
    asked = rows.values(**labels).annotate(**sums).order_by().values_list(*labels, *sums)
    return [(row[: len(labels)], row[len(labels) :]) for row in asked]
