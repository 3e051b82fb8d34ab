"""Ends the holds that nobody renews any more: what a process held when it was killed goes back to its workspace, free.

A hold whose lease is over belongs to no living process. It expires here and pays nothing; its request leaves no usage
record, because nobody knows how it went. Should its settlement come after all, the ledger keeps the record and charges
nothing.

Invariants: rows are locked in the ledger's order, the account before its budgets before its holds, each by id; what an
account and its budgets hold falls by exactly what expires, in one transaction for each account; a hold that is being renewed
is passed over, and an account that somebody keeps locked, too. Sweeps may run side by side without harm.

Leases are judged by the database's clock, and a clock can jump: then the holds of living requests look abandoned all at
once, as those of a process that was killed do. How many they are does not tell the one from the other; a clock that
cannot jump does. A sweeper therefore reads the monotonic clock of its machine beside the database's, at each pass:

- Where the database's has run ahead of it, where the last pass was too long ago, or there was none yet, the sweeper knows
  nothing of the leases, and begins to watch. A round and a half of renewal is too long if a pass failed meanwhile, for whoever
  renews may have found no database either: then the shortest lease has half a round left, in which he tries every second.
- Each pass is kept in the database, so that a new process goes on from what the last one knew. Since the same start of the
  machine the monotonic clock is the same, and tells also after a while without any process that the database's ran evenly:
  then half a round of renewal is enough, in which whoever found no database meanwhile has tried again.
- It expires nothing until it has watched for two rounds of renewal. By then every living process has renewed what is
  its own, by the clock as it is now, whatever the clock did before; what is past its lease then is dead, be it one hold
  or ten thousand, and goes in one pass.

So a process that is killed is swept in time by the others, which have watched all along, and by its successor, which
goes on with the watch or begins it anew while the leases run out. A clock that was set back harms no living hold, but the dead would stay: a lease that
ends later than any lease can is cut to a whole one. Staff can force a pass at any time. Many holds at once are an alarm.

Credit that time gives and takes (`billing.renewals`, `billing.expiry`) is booked by the same readings. No round of renewal
puts right what was booked by a wrong clock: after one that ran ahead, booking waits for an hour, in which people can. A new
process waits what is left of the hour; and a whole one where nothing tells that the clock ran evenly: the machine is another,
or was started since, and the last pass (or, before there was one, the last entry) is more than five minutes ago by the clock.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone

from billing.models import Account, Budget, ClockReading, Entry, Hold

log = structlog.get_logger(__name__)

BATCH_ROWS: Final = 500
ROUNDS_OF_RENEWAL: Final = 2
# So long after the clock ran ahead nothing is booked by it.
SETTLED_AFTER_S: Final = 3600.0
# By so much the clock may have moved on while nobody watched it and nothing tells how it ran.
UNWATCHED_MOST_S: Final = 300.0
# More holds than this, and more than this part of all open ones, are an alarm when they expire in one pass.
USUAL_COUNT: Final = 20
USUAL_PERCENT: Final = 20
# By which PostgreSQL says that a lock was waited for too long.
_LOCK_NOT_AVAILABLE: Final = "55P03"


def database_now() -> datetime:
    """The clock that leases are written by; on SQLite that is this machine's."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
        return now


def believed_now() -> datetime | None:
    """The database's clock as the last pass of any process has read it; None while it is not steady, or before the first.

    For what cannot be taken back and has a pass of its own. It may be late, and is not early.
    """
    kept = ClockReading.objects.first()
    return None if kept is None or kept.monotonic < kept.steady_from else kept.now


def boot_of_machine() -> str:
    """Names the start of this machine since which its monotonic clock counts, for all its processes; empty if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Swept(msgspec.Struct, frozen=True):
    """`is_waiting`: holds are past their lease, and none was expired, because the clock was not watched for long enough.

    `locked_accounts` were kept locked by somebody else for too long, so that nothing of theirs was expired.
    """

    expired: int = 0
    is_waiting: bool = False
    locked_accounts: int = 0


class _Reading(NamedTuple):
    """The database's clock, and the monotonic one just before and just after it was asked, in seconds."""

    now: datetime
    before_s: float
    after_s: float

    def ahead_s(self, of: _Reading) -> float:
        """By how much more the database's clock has moved on than time can have passed since an earlier reading."""
        return (self.now - of.now).total_seconds() - (self.after_s - of.before_s)


class Sweeper:
    """Watches the clock from pass to pass. For one thread.

    `now` is the database's clock; `monotonic` counts seconds since the start of the machine that `boot` names.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = database_now,
        monotonic: Callable[[], float] = time.monotonic,
        boot: Callable[[], str] = boot_of_machine,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._boot = boot()
        self._last: _Reading | None = None
        self._has_failed = False
        self._watched_since_s = 0.0
        self._reading: _Reading | None = None
        self._steady_from_s = 0.0

    def sweep(self, *, is_forced: bool = False) -> Swept:
        """Expire every hold past its lease; without a look at how the clock runs if `is_forced`.

        Call it outside of a transaction.
        """
        most_s = settings.LEASE_RENEW_S + settings.LEASE_RENEW_S / 2 if self._has_failed else _watch_s()
        self._has_failed = True
        before_s = self._monotonic()
        reading = _Reading(self._now(), before_s, self._monotonic())
        if self._reading is None:
            self._resume(reading)
        else:
            self._judge(self._reading, reading)
            self._watch(self._last, reading, most_s=most_s)
        self._reading = reading
        # Writes on every pass: a database that takes no renewals shows.
        _cut_leases(reading.now + timedelta(seconds=settings.HOLD_LEASE_S))
        open_count, past_count = _count(reading.now)
        left_s = _watch_s() - (reading.before_s - self._watched_since_s)
        if past_count and left_s > 0 and not is_forced:
            log.warning(
                "sweep waits: the clock is being watched", past_count=past_count, open_count=open_count, left_s=round(left_s, 1)
            )
            swept = Swept(is_waiting=True)
        else:
            swept = _expire(reading.now, open_count, self._now) if past_count else Swept()
        self._keep(reading)
        self._last, self._has_failed = reading, False
        return swept

    def last_read(self) -> datetime:
        """The database's, as the last pass has read it."""
        if self._reading is None:
            raise LookupError("no pass has read the clock yet")
        return self._reading.now

    @property
    def is_steady(self) -> bool:
        """Whether that time may be believed for what cannot be taken back. A pass that raised is none to begin anew for."""
        return self._reading is not None and self._reading.before_s >= self._steady_from_s

    def _resume(self, reading: _Reading) -> None:
        """Goes on from what the last pass of any process knew."""
        kept = ClockReading.objects.first()
        if kept is None or not self._boot or kept.boot != self._boot or kept.monotonic.total_seconds() > reading.before_s:
            self._watched_since_s = reading.after_s
            self._steady_from_s = reading.after_s + _doubt_s(kept, reading.now)
            return
        last = _Reading(kept.now, kept.monotonic.total_seconds(), kept.monotonic.total_seconds())
        self._watched_since_s, self._steady_from_s = kept.watched_since.total_seconds(), kept.steady_from.total_seconds()
        self._judge(last, reading)
        self._watch(last, reading, most_s=_watch_s(), again_s=settings.LEASE_RENEW_S / 2)

    def _judge(self, last: _Reading, reading: _Reading) -> None:
        """What cannot be taken back waits after a clock that ran ahead."""
        if _ran_ahead(last, reading):
            self._steady_from_s = reading.after_s + SETTLED_AFTER_S

    def _watch(self, last: _Reading | None, reading: _Reading, *, most_s: float, again_s: float | None = None) -> None:
        """Begins the watch anew where the last pass is more than `most_s` ago, or the clock is not well.

        For `again_s` only, where it is well and that is given.
        """
        if last is None:
            self._watched_since_s = reading.after_s
        elif _ran_ahead(last, reading):
            log.error("the clock of the leases ran ahead", ahead_s=round(reading.ahead_s(last), 1))
            self._watched_since_s = reading.after_s
        elif reading.after_s - last.before_s > most_s:
            self._watched_since_s = reading.after_s - (0.0 if again_s is None else _watch_s() - again_s)

    def _keep(self, reading: _Reading) -> None:
        kept = ClockReading(
            now=reading.now,
            boot=self._boot,
            monotonic=timedelta(seconds=reading.before_s),
            watched_since=timedelta(seconds=self._watched_since_s),
            steady_from=timedelta(seconds=self._steady_from_s),
        )
        fields = ["now", "boot", "monotonic", "watched_since", "steady_from"]
        ClockReading.objects.bulk_create([kept], update_conflicts=True, unique_fields=["singleton"], update_fields=fields)


def _ran_ahead(last: _Reading, reading: _Reading) -> bool:
    # A lease has two rounds left when it is renewed in time, so half a round in one pass harms none.
    return reading.ahead_s(last) > settings.LEASE_RENEW_S / 2


def _doubt_s(kept: ClockReading | None, now: datetime) -> float:
    """For how long nothing that cannot be taken back is booked, by a clock of which only this is known."""
    newest = Entry.objects.order_by("-pk").values_list("created_at", flat=True).first() if kept is None else kept.now
    unwatched_s = 0.0 if newest is None else (now - newest).total_seconds()
    left_s = 0.0 if kept is None else (kept.steady_from - kept.monotonic).total_seconds() - max(0.0, unwatched_s)
    if unwatched_s > UNWATCHED_MOST_S:
        log.warning("nobody watched the clock: credit waits for an hour", unwatched_s=round(unwatched_s))
        left_s = SETTLED_AFTER_S
    return max(_watch_s(), left_s)


def _watch_s() -> float:
    watch_s: float = ROUNDS_OF_RENEWAL * settings.LEASE_RENEW_S
    return watch_s


def _cut_leases(latest: datetime) -> None:
    """Lets no lease end later than one that is renewed now. What is being renewed is passed over."""
    with transaction.atomic():
        # A round of grace, because other processes have renewed since the clock was read.
        beyond = _open().filter(lease_expires_at__gt=latest + timedelta(seconds=settings.LEASE_RENEW_S))
        ids = list(beyond.order_by("pk").select_for_update(skip_locked=True).values_list("pk", flat=True)[:BATCH_ROWS])
        if ids:
            log.error("leases that no clock of now can have written are cut", count=len(ids))
        Hold.objects.filter(pk__in=ids).update(lease_expires_at=latest)


def _open() -> QuerySet[Hold]:
    return Hold.objects.filter(state=Hold.State.OPEN)


def _past(before: datetime) -> QuerySet[Hold]:
    return _open().filter(lease_expires_at__lt=before)


def _count(before: datetime) -> tuple[int, int]:
    """How many holds are open, and how many of them past their lease."""
    counts = _open().aggregate(all=Count("pk"), past=Count("pk", filter=Q(lease_expires_at__lt=before)))
    return counts["all"], counts["past"]


def _expire(before: datetime, open_count: int, now: Callable[[], datetime]) -> Swept:
    """Expires what was past its lease then, account by account, so that one that is locked keeps no other waiting."""
    expired = locked = 0
    for account_id in _past(before).order_by("account").values_list("account", flat=True).distinct():
        try:
            # A full batch may have left some. One with some passed over, as they are being renewed, is the last.
            while (count := _expire_batch(account_id, before, now)) == BATCH_ROWS:
                expired += count
            expired += count
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            locked += 1
            log.exception("holds of a locked account could not be expired", account=account_id)
    if expired:
        is_usual = expired <= USUAL_COUNT or expired * 100 <= open_count * USUAL_PERCENT
        (log.warning if is_usual else log.error)("holds expired", count=expired, open_count=open_count)
    return Swept(expired, locked_accounts=locked)


def _expire_batch(account_id: int, before: datetime, now: Callable[[], datetime]) -> int:
    """How many holds of the account expired, at most BATCH_ROWS."""
    with transaction.atomic():
        past = _past(before).filter(account=account_id)
        seen = list(past.order_by("lease_expires_at")[:BATCH_ROWS].values_list("pk", "budget_ids"))
        _lock(Account.objects.filter(pk=account_id))
        _lock(Budget.every.filter(pk__in={budget_id for _, budget_ids in seen for budget_id in budget_ids}))
        # Read again: what was settled or renewed since is not ours any more.
        still_past = past.filter(pk__in=[pk for pk, _ in seen])
        locked = list(still_past.order_by("pk").select_for_update(skip_locked=True))
        # Where the clock was set back since it was read, what was renewed by it since looks past its lease, and is not.
        latest = min(before, now())
        holds = [hold for hold in locked if hold.lease_expires_at < latest]
        Hold.objects.filter(pk__in=[hold.pk for hold in holds]).update(state=Hold.State.EXPIRED, closed_at=before)
        _release(account_id, holds)
    return len(holds)


def _lock(rows: QuerySet[Account] | QuerySet[Budget]) -> None:
    list(rows.order_by("pk").select_for_update().values_list("pk"))


def _release(account_id: int, holds: list[Hold]) -> None:
    """Takes the amounts out of what the account and the budgets hold. A budget that was deleted since is passed over."""
    total = sum(hold.amount_microcredits for hold in holds)
    Account.objects.filter(pk=account_id).update(held_microcredits=F("held_microcredits") - total)
    of_budgets: Counter[int] = Counter()
    for hold in holds:
        for budget_id in hold.budget_ids:
            of_budgets[budget_id] += hold.amount_microcredits
    for budget_id, amount in of_budgets.items():
        Budget.every.filter(pk=budget_id).update(held_microcredits=F("held_microcredits") - amount)
