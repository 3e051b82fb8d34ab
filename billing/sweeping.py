"""Ends the holds that nobody renews any more: what a process held when it was killed goes back to its workspace, free.

A hold whose lease is over belongs to no living process. It expires here and pays nothing; its request leaves no usage
record, because nobody knows how it went. Should its settlement come after all, the ledger keeps the record and charges
nothing.

Invariants: rows are locked in the ledger's order, accounts before budgets before holds, each by id; what an account and
its budgets hold falls by exactly what expires, in one transaction; a hold that is being renewed is passed over. Sweeps
may run side by side without harm.

Leases are judged by the database's clock. When that jumps, the holds of living requests look abandoned all at once, so a
pass that would expire too many stops, expires nothing and raises an alarm. Living processes renew what is theirs soon
after; what none of them renewed in two rounds, timed by a clock that does not jump, was abandoned indeed, as by a busy
process that was killed, and a later pass of the same sweeper expires it. Staff can force a pass at any time.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone

from billing.models import Account, Budget, Hold

log = structlog.get_logger(__name__)

BATCH_ROWS: Final = 500
# A pass is refused when it would expire more holds than this and more than this part of all open ones.
MAX_UNASKED: Final = 20
MAX_UNASKED_PERCENT: Final = 20
ROUNDS_OF_RENEWAL: Final = 2


class Swept(msgspec.Struct, frozen=True):
    """`is_stopped`: too many holds were past their lease, so none was expired."""

    expired: int = 0
    is_stopped: bool = False


class _Stop(NamedTuple):
    """When passes began to stop: by the clock of leases, and by one that does not jump."""

    at: datetime
    monotonic_s: float


class Sweeper:
    """Remembers since when its passes stop. For one thread."""

    def __init__(self) -> None:
        self._stop: _Stop | None = None

    def sweep(self, *, is_forced: bool = False) -> Swept:
        """Expire every hold past its lease, however many if `is_forced`. Call it outside of a transaction."""
        # A clock that jumps after this, or a lease that ends meanwhile, is for the next pass.
        ended_before = _database_now()
        open_count, past_count = _count(ended_before)
        is_suspicious = past_count > MAX_UNASKED and past_count * 100 > open_count * MAX_UNASKED_PERCENT
        if is_suspicious and not is_forced:
            stop = self._stop = self._stop or _Stop(ended_before, time.monotonic())
            if time.monotonic() - stop.monotonic_s < ROUNDS_OF_RENEWAL * settings.LEASE_RENEW_S:
                log.error("sweep stopped: too many holds are past their lease", past=past_count, open=open_count)
                return Swept(is_stopped=True)
            ended_before = stop.at
        self._stop = None
        expired = 0
        while expired < past_count and (count := _expire_batch(ended_before)):
            expired += count
        if expired:
            log.warning("holds expired", count=expired)
        return Swept(expired)


def sweep(*, is_forced: bool = False) -> Swept:
    """One pass of a sweeper that remembers nothing."""
    return Sweeper().sweep(is_forced=is_forced)


def _count(before: datetime) -> tuple[int, int]:
    """How many holds are open, and how many of them past their lease."""
    counts = Hold.objects.filter(state=Hold.State.OPEN).aggregate(
        all=Count("pk"), past=Count("pk", filter=Q(lease_expires_at__lt=before))
    )
    return counts["all"], counts["past"]


def _database_now() -> datetime:
    """The clock that leases are written by; on SQLite that is this machine's."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
        return now


def _past(before: datetime) -> QuerySet[Hold]:
    return Hold.objects.filter(state=Hold.State.OPEN, lease_expires_at__lt=before)


def _expire_batch(before: datetime) -> int:
    """How many holds expired: none when there are none left, or when all that are left are being renewed."""
    with transaction.atomic():
        seen = list(_past(before).order_by("lease_expires_at")[:BATCH_ROWS].values_list("pk", "account_id", "budget_ids"))
        _lock(Account.objects.filter(pk__in={account_id for _, account_id, _ in seen}))
        _lock(Budget.objects.filter(pk__in={budget_id for _, _, budget_ids in seen for budget_id in budget_ids}))
        # Read again: what was settled or renewed since is not ours any more.
        still_past = _past(before).filter(pk__in=[pk for pk, _, _ in seen])
        holds = list(still_past.order_by("pk").select_for_update(skip_locked=True))
        Hold.objects.filter(pk__in=[hold.pk for hold in holds]).update(state=Hold.State.EXPIRED, closed_at=before)
        _release(holds)
    return len(holds)


def _lock(rows: QuerySet[Account] | QuerySet[Budget]) -> None:
    list(rows.order_by("pk").select_for_update().values_list("pk"))


def _release(holds: list[Hold]) -> None:
    """Takes the amounts out of what accounts and budgets hold. A budget that was deleted since is passed over."""
    of_accounts: Counter[int] = Counter()
    of_budgets: Counter[int] = Counter()
    for hold in holds:
        of_accounts[hold.account_id] += hold.amount_microcredits
        for budget_id in hold.budget_ids:
            of_budgets[budget_id] += hold.amount_microcredits
    for account_id, amount in of_accounts.items():
        Account.objects.filter(pk=account_id).update(held_microcredits=F("held_microcredits") - amount)
    for budget_id, amount in of_budgets.items():
        Budget.objects.filter(pk=budget_id).update(held_microcredits=F("held_microcredits") - amount)
