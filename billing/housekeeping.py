"""What has to be done from time to time, whoever asks for what: holds and credit that expire, plans, alerts, what is kept a while.

Two kinds of pass, each with an election and a thread of its own: what is booked, and told, by the time, which must come round
in time, and what is purged, which may wait for a store of files, with the proof of the books, which reads for long. Every
serving process runs both, and so may `manage.py housekeeping`; the elected one works, the others pass. A chore that fails is
logged and keeps no other from its turn, now or next time. Apps above add what else is purged, and what else alerts are about,
by giving it (`chat.chores`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

import msgspec
import structlog
from django.conf import settings
from django.db import close_old_connections, connection
from django.utils import timezone

from billing import courier, expiry, idempotency, renewals, rollups
from billing.alerts import spreading
from billing.alerts.watching import Watch
from billing.election import elected
from billing.looping import ThreadLoop
from billing.models import RequestTrace, UsageRecord, Workspace
from billing.models.workspaces import MOST_TRACE_DAYS
from billing.payments import auto, booking
from billing.proving import DailyProof
from billing.sweeping import Sweeper, believed_now
from billing.webhooks import deliveries
from infery_site.patience import short_lock_waits

log = structlog.get_logger(__name__)

T = TypeVar("T")

Chores = Mapping[str, Callable[[], int]]
"""What else a pass does, by the name of what each chore purges, and counts."""

_NO_CHORES: Final[Chores] = {}

LOCK_TIMEOUT_S: Final = 3
TRACES_KEPT_FOR: Final = timedelta(days=MOST_TRACE_DAYS)
_PURGE_BATCH_ROWS: Final = 500
# More waits for the next pass, so that the sweep comes round in time.
_PURGE_BATCHES: Final = 20
_PURGE_EVERY: Final = timedelta(hours=1)


class Tidied(msgspec.Struct, frozen=True):
    """What one pass did. `failed` names the chores that could not be done; not `is_elected`: another process is at it.

    `is_waiting`: there is something to expire or to renew, and the clock was not watched for long enough. `purged` are
    the counts of the chores that were given.
    """

    is_elected: bool = False
    is_waiting: bool = False
    expired_holds: int = 0
    renewals: int = 0
    expiries: int = 0
    purged_replies: int = 0
    purged_traces: int = 0
    purged: tuple[tuple[str, int], ...] = ()
    failed: tuple[str, ...] = ()


class Housekeeper:
    """The loops of one serving process, one for each kind of pass. `stop_within_s` as in `billing.looping`."""

    def __init__(self, chores: Chores = _NO_CHORES, watch: Watch | None = None, *, stop_within_s: float = 5.0) -> None:
        passes = {"booking": partial(book, Sweeper(), watch or Watch()), "purging": partial(purge, chores, DailyProof())}
        self._loops = [
            ThreadLoop(name, partial(soundly, work), lambda: settings.SWEEP_EVERY_S, stop_within_s=stop_within_s)
            for name, work in passes.items()
        ]

    async def start(self) -> None:
        for loop in self._loops:
            await loop.start()

    async def stop(self) -> None:
        """Lets passes that are running end. What one that hangs does not get done, another process does."""
        await asyncio.gather(*(loop.stop() for loop in self._loops))


def soundly(work: Callable[[], Tidied]) -> Tidied:
    """A pass of a loop: with the care for connections that Django gives to its requests only. Logs instead of raising."""
    try:
        close_old_connections()
        return work()
    except Exception:
        log.exception("housekeeping failed")
        return Tidied(failed=("housekeeping",))
    finally:
        close_old_connections()


def tidy(sweeper: Sweeper, chores: Chores = _NO_CHORES, watch: Watch | None = None, *, is_forced: bool = False) -> Tidied:
    """One pass of each kind. `is_elected` is that of the booking. Raises what keeps an election from being held."""
    booked, purged = book(sweeper, watch or Watch(), is_forced=is_forced), purge(chores, DailyProof())
    return msgspec.structs.replace(
        booked,
        purged_replies=purged.purged_replies,
        purged_traces=purged.purged_traces,
        purged=purged.purged,
        failed=(*booked.failed, *purged.failed),
    )


def book(sweeper: Sweeper, watch: Watch, *, is_forced: bool = False) -> Tidied:
    """One pass over what time does to credit; `is_forced` is the sweep's. Raises what keeps the election from being held."""
    with elected("housekeeping") as is_elected, short_lock_waits(connection, LOCK_TIMEOUT_S):
        if not is_elected:
            return Tidied()
        failed: list[str] = []
        swept = _try("sweep", partial(sweeper.sweep, is_forced=is_forced), failed)
        if swept is not None and swept.locked_accounts:
            failed.append("sweep")
        # Before the expiry of what they take the place of, so that no workspace is without for a moment.
        by_time = partial(_book, sweeper, is_forced=is_forced)
        renewed = _try("plan renewals", lambda: by_time(renewals.renew_plans, renewals.is_due), failed) or _NOTHING
        expired = _try("credit expiry", lambda: by_time(expiry.expire_credits, expiry.is_due), failed) or _NOTHING
        _try("alerts", watch.look, failed)
        # Before the top-ups that a balance may need once it is taken.
        _try("credit of payments", booking.take_owed, failed)
        _try("open charges", auto.look_up_open, failed)
        _try("auto top-ups", auto.begin_due, failed)
        _try("notices", spreading.spread, failed)
    return Tidied(
        is_elected=True,
        is_waiting=renewed.is_waiting or expired.is_waiting or (swept is not None and swept.is_waiting),
        expired_holds=0 if swept is None else swept.expired,
        renewals=renewed.count,
        expiries=expired.count,
        failed=tuple(failed),
    )


def purge(chores: Chores, proof: DailyProof) -> Tidied:
    """One pass over what is kept for a while only, and what may take its time. Raises what keeps the election from being held."""
    with elected("purging") as is_elected, short_lock_waits(connection, LOCK_TIMEOUT_S):
        if not is_elected:
            return Tidied()
        failed: list[str] = []
        replies = _try("idempotent replies", lambda: idempotency.purge(timezone.now() - idempotency.KEPT_FOR), failed)
        traces = _try("request traces", purge_traces, failed)
        _try("old notices", spreading.purge, failed)
        _try("webhook deliveries", deliveries.purge, failed)
        _try("lost webhook deliveries", deliveries.resume_lost, failed)
        _try("tasks", courier.tidy, failed)
        _try("usage by day", _add_up_days, failed)
        purged = tuple((name, _try(name, chore, failed) or 0) for name, chore in chores.items())
        _try("proof of the books", lambda: proof.make_if_due(timezone.now()), failed)
    return Tidied(is_elected=True, purged_replies=replies or 0, purged_traces=traces or 0, purged=purged, failed=tuple(failed))


class _Booked(msgspec.Struct, frozen=True):
    count: int = 0
    is_waiting: bool = False


_NOTHING: Final = _Booked()


def _book(sweeper: Sweeper, book: Callable[[datetime], int], is_due: Callable[[datetime], bool], *, is_forced: bool) -> _Booked:
    """What is booked because of the time, if the clock that tells it is steady."""
    now = sweeper.last_read()
    if is_forced or sweeper.is_steady:
        return _Booked(book(now))
    is_waiting = is_due(now)
    if is_waiting:
        log.warning("credit waits: the clock is being watched")
    return _Booked(is_waiting=is_waiting)


def _add_up_days() -> int:
    """A day that is added up is never opened again. So it waits as credit does while the clock is not steady."""
    now = believed_now()
    return 0 if now is None else rollups.roll_up(now)


def purge_traces() -> int:
    """Delete request traces that are old enough, a bounded number of them. Gives how many."""
    old = RequestTrace.objects.filter(created_at__lt=timezone.now() - TRACES_KEPT_FOR)
    deleted = 0
    for _ in range(_PURGE_BATCHES):
        ids = list(old.order_by("created_at").values_list("pk", flat=True)[:_PURGE_BATCH_ROWS])
        if not ids:
            break
        deleted += RequestTrace.objects.filter(pk__in=ids).delete()[0]
    return deleted + _purge_sooner(timezone.now())


def _purge_sooner(now: datetime) -> int:
    """The same for workspaces that keep them for less, which is looked at once an hour for each."""
    deleted = 0
    for workspace in Workspace.objects.filter(traces_kept_days__lt=MOST_TRACE_DAYS).order_by("pk"):
        until = now - timedelta(days=workspace.traces_kept_days)
        since = max(workspace.traces_purged_until or now - TRACES_KEPT_FOR, now - TRACES_KEPT_FOR)
        if until - since < _PURGE_EVERY:
            continue
        own = UsageRecord.objects.filter(workspace=workspace, created_at__gte=since, created_at__lt=until)
        found = list(own.order_by("created_at").values_list("generation", "created_at")[: _PURGE_BATCHES * _PURGE_BATCH_ROWS])
        generations = [generation for generation, _ in found]
        for start in range(0, len(generations), _PURGE_BATCH_ROWS):
            deleted += RequestTrace.objects.filter(generation__in=generations[start : start + _PURGE_BATCH_ROWS]).delete()[0]
        # More than a pass may do: the next one goes on where this ends.
        is_all = len(found) < _PURGE_BATCHES * _PURGE_BATCH_ROWS
        reached = until if is_all else max(found[-1][1], since + timedelta(microseconds=1))
        Workspace.objects.filter(pk=workspace.pk).update(traces_purged_until=reached)
    return deleted


def _try(name: str, chore: Callable[[], T], failed: list[str]) -> T | None:
    try:
        return chore()
    except Exception:
        log.exception("a chore failed", chore=name)
        failed.append(name)
        return None
