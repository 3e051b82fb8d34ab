"""The gateway proves its own books every day, so that what is wrong in them is known while it can still be found out why.

Such a proof reads what was booked since the one before it; once a week, and after one that found something, all there ever
was. What staff prove by themselves, of all time, need not be proven again that day.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db.models import Q

from billing import audit
from billing.ledger.reconcile import RECONCILED, prove
from billing.models import AuditEvent, Entry

log = structlog.get_logger(__name__)

ACTOR: Final = "housekeeping"
FAILED: Final = "ledger.not_reconciled"
# So long that it is less than the day after which staff are told, also where nobody served for some hours.
PROVEN_EVERY: Final = timedelta(hours=20)
ALL_PROVEN_EVERY: Final = timedelta(days=7)
AGAIN_AFTER: Final = timedelta(hours=1)
# What was written while the last proof read may have an earlier time than it.
_OVERLAP: Final = timedelta(hours=1)
_TOLD_MOST: Final = 20


def prove_when_due(now: datetime) -> int:
    """How many violations were found; nothing where it is not time yet. Raises what keeps the books from being read."""
    last = _newest(Q(action=RECONCILED) & (Q(actor=ACTOR) | Q(details__since=None)))
    since = _first_booking() if last is None else last.created_at
    failed = _newest(Q(action=FAILED))
    # A time to come was told by a clock that was wrong.
    if since is None or timedelta() <= now - since < PROVEN_EVERY:
        return 0
    if failed is not None and timedelta() <= now - failed.created_at < AGAIN_AFTER:
        return 0
    try:
        violations = prove(actor=ACTOR, since=None if last is None or _is_all_due(now) else last.created_at - _OVERLAP)
    except Exception as error:
        audit.record(FAILED, actor=ACTOR, details={"error": type(error).__name__})
        raise
    for violation in violations[:_TOLD_MOST]:
        log.error("the books are wrong", check=violation.check, subject=violation.subject, count=len(violations))
    return len(violations)


def _is_all_due(now: datetime) -> bool:
    """Whether all there ever was is to be proven: after a week, and as long as something is wrong."""
    newest = _newest(Q(action=RECONCILED))
    if newest is None or newest.details.get("violations"):
        return True
    of_all = _newest(Q(action=RECONCILED, details__since=None))
    return of_all is None or not timedelta() <= now - of_all.created_at < ALL_PROVEN_EVERY


def _newest(which: Q) -> AuditEvent | None:
    return AuditEvent.objects.filter(which, workspace__isnull=True).order_by("-pk").first()


def _first_booking() -> datetime | None:
    return Entry.objects.order_by("pk").values_list("created_at", flat=True).first()
