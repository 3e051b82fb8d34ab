"""Points and spans of time as people and programs write them, always in UTC (pure).

2026-11-25                    a day; as an end, the day is part of the span
2026-11-25T10:00:00Z          a moment, with an offset or in UTC; as an end, the span stops before it
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta

import msgspec

_DAY = timedelta(days=1)
_WRITTEN = re.compile(r"(?:19[7-9]|[2-9]\d\d)\d-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_DATE_LENGTH = len("2026-11-25")


class MomentError(ValueError):
    """A text that names no point in time. The message says what is expected."""


class Span(msgspec.Struct, frozen=True):
    """From `start` up to, and without, `end`."""

    start: datetime
    end: datetime


def moment(text: str, *, is_end: bool = False) -> datetime:
    """The moment that a text names. A day is its first moment, as an end the first moment after it. Raises MomentError.

    Nothing here happened before 1970: so far from the first year, whoever counts days back does not leave the calendar.
    """
    try:
        at = datetime.fromisoformat(text if _WRITTEN.fullmatch(text) else "")
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        return at + _DAY if is_end and len(text) == _DATE_LENGTH else at
    except (ValueError, OverflowError):
        raise MomentError("a date such as 2026-11-25, or a time such as 2026-11-25T10:00:00Z, is expected") from None


def moment_text(at: datetime) -> str:
    """An aware moment as every answer writes it: `2026-11-25T10:00:00.000000Z`."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def period_end(period: str, started_at: datetime) -> datetime | None:
    """When the period of a budget ends that began at `started_at`; None for `never`."""
    if period == "day":
        return started_at + _DAY
    if period == "week":
        return started_at + 7 * _DAY
    if period == "month":
        return (started_at.replace(day=1) + 31 * _DAY).replace(day=1)
    return None


def month_around(at: datetime, day: int) -> Span:
    """The month that begins on this day (1 to 31) and that `at` lies in. Where a month has no such day, on its last one."""
    at = at.astimezone(UTC)
    this_month = _on_day(at.replace(day=1), day)
    if at < this_month:
        return Span(_on_day(at.replace(day=1) - _DAY, day), this_month)
    return Span(this_month, _on_day(at.replace(day=1) + 31 * _DAY, day))


def _on_day(month: datetime, day: int) -> datetime:
    """Midnight of the day in the month of a moment, or of the month's last day."""
    last = monthrange(month.year, month.month)[1]
    return month.replace(day=min(day, last), hour=0, minute=0, second=0, microsecond=0)
