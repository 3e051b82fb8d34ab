"""The gateway proves its own books every day, so that what is wrong in them is known while it can still be found out why.

Such a proof reads what was booked since the one before it; once a week, and until one of all time finds nothing any more, all
there ever was. What staff prove by themselves, of all time, need not be proven again that day.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db.models import Q

from billing.ledger.reconcile import last_finding, proofs, prove
from billing.models import AuditEvent, Entry, Hold
from billing.sweeping import database_now

log = structlog.get_logger(__name__)

ACTOR: Final = "housekeeping"
# So long that it is less than the day after which staff are told, also where nobody served for some hours.
PROVEN_EVERY: Final = timedelta(hours=20)
ALL_PROVEN_EVERY: Final = timedelta(days=7)
PATIENCE_S: Final = 3600.0
# What was being written while a proof began may have an earlier time than it.
_OVERLAP: Final = timedelta(hours=1)
_TOLD_MOST: Final = 20
_OF_ALL: Final = Q(details__since=None)


class DailyProof:
    """What one process remembers between two looks whether it is time: since when a proof waits, and when one failed."""

    def __init__(self) -> None:
        self._waits_from_s: float | None = None
        self._failed_at_s: float | None = None

    def make_if_due(self, now: datetime) -> int:
        """How many violations were found; nothing where it is not time yet. Raises what keeps the books from being read."""
        last = proofs().filter(Q(actor=ACTOR) | _OF_ALL).first()
        begun = _first_booking() if last is None else last.created_at
        # A time to come was told by a clock that was wrong.
        if begun is None or timedelta() <= now - begun < PROVEN_EVERY:
            self._waits_from_s = None
            return 0
        if self._has_to_wait():
            return 0
        self._waits_from_s = None
        try:
            violations = prove(actor=ACTOR, since=_since(last, now))
        except Exception:
            self._failed_at_s = time.monotonic()
            raise
        for violation in violations[:_TOLD_MOST]:
            log.error("the books are wrong", check=violation.check, subject=violation.subject, count=len(violations))
        return len(violations)

    def _has_to_wait(self) -> bool:
        """For an hour at the most each: after a failure, and for the sweep of what a process left open that died."""
        now_s = time.monotonic()
        if self._failed_at_s is not None and now_s - self._failed_at_s < PATIENCE_S:
            return True
        if not Hold.objects.filter(state=Hold.State.OPEN, lease_expires_at__lt=database_now()).exists():
            return False
        if self._waits_from_s is None:
            self._waits_from_s = now_s
        return now_s - self._waits_from_s < PATIENCE_S


def _since(last: AuditEvent | None, now: datetime) -> datetime | None:
    """From when on the books are read; None is all of them."""
    of_all = proofs().filter(_OF_ALL).first()
    if last is None or of_all is None or last_finding() is not None:
        return None
    if last.created_at > now or not timedelta() <= now - of_all.created_at < ALL_PROVEN_EVERY:
        return None
    return last.created_at - timedelta(seconds=last.details.get("took_s", 0)) - _OVERLAP


def _first_booking() -> datetime | None:
    return Entry.objects.order_by("pk").values_list("created_at", flat=True).first()
