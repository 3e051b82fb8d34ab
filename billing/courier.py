"""Runs what was enqueued as a task (`django_tasks`): mails, and whatever else takes its time at a stranger's.

Every serving process takes tasks, on threads of its own, so that none of them keeps housekeeping or a request waiting. Mails
and charges have one thread, and webhooks, of which a stranger says how long they take, have others: there workspaces take
turns (`billing.turns`), so that others wait for one turn of a receiver that is silent, and not for all of its messages. `manage.py db_worker`
takes mails and charges in a process of its own.

A task is claimed by a row, so that one process runs it; that of a process which was killed is given to another one after
RESCUE_AFTER. Tasks are therefore such that they may run twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db import close_old_connections
from django.utils import timezone
from django.utils.crypto import get_random_string
from django_tasks import DEFAULT_TASK_BACKEND_ALIAS, DEFAULT_TASK_QUEUE_NAME
from django_tasks.base import TaskResultStatus
from django_tasks_db.management.commands.db_worker import Worker
from django_tasks_db.models import DBTaskResult

from billing.looping import ThreadLoop
from billing.turns import Turns
from billing.webhooks import deliveries

log = structlog.get_logger(__name__)

RESCUE_AFTER: Final = timedelta(minutes=10)
KEPT_FOR: Final = timedelta(days=7)
# So that a process that stops waits for no more.
_AT_ONCE: Final = 20
_WEBHOOK_THREADS: Final = 3
_PURGE_ROWS: Final = 2_000


class Courier:
    """The tasks of one serving process."""

    def __init__(self) -> None:
        turns = Turns()
        self._loops = [_Mails("courier"), *(_Webhooks(f"webhooks-{number}", turns) for number in range(_WEBHOOK_THREADS))]

    async def start(self) -> None:
        for loop in self._loops:
            await loop.start()

    async def stop(self) -> None:
        """Lets the tasks that are running end, and begins no other."""
        await asyncio.gather(*(loop.stop() for loop in self._loops))


class _Tasks(ThreadLoop):
    def __init__(self, name: str) -> None:
        super().__init__(name, self._take_soundly, lambda: settings.TASKS_EVERY_S)
        self._worker: Worker | None = None

    async def stop(self) -> None:
        self._leaving.set()
        if (worker := self._worker) is not None:
            worker.running = False
        await super().stop()

    def _take_soundly(self) -> None:
        try:
            close_old_connections()
            self._take()
        except Exception:
            log.exception("tasks could not be run")
        finally:
            close_old_connections()

    def _take(self) -> None:
        raise NotImplementedError

    def _run(self, worker: Worker) -> None:
        self._worker = worker
        try:
            worker.run()
        finally:
            self._worker = None


class _Mails(_Tasks):
    """Mails and charges, one after another."""

    def _take(self) -> None:
        # A look costs less than the worker's, which takes SQLite's lock for it.
        if DBTaskResult.objects.ready().filter(queue_name=DEFAULT_TASK_QUEUE_NAME).exists():
            self._run(new_worker([DEFAULT_TASK_QUEUE_NAME]))


class _Webhooks(_Tasks):
    """One message at a time, of the endpoint whose turn it is."""

    def __init__(self, name: str, turns: Turns) -> None:
        super().__init__(name)
        self._turns = turns

    def _take(self) -> None:
        while not self._leaving.is_set() and (lane := self._turns.begin(_list_lanes())) is not None:
            begun_s = time.monotonic()
            try:
                self._run(new_worker([lane], most_tasks=1))
            finally:
                self._turns.end(lane, time.monotonic() - begun_s)


def _list_lanes() -> list[str]:
    """The queues of endpoints for which something is due."""
    due = DBTaskResult.objects.ready().filter(queue_name__startswith=deliveries.QUEUE)
    return list(due.order_by().values_list("queue_name", flat=True).distinct())


def new_worker(queues: Sequence[str] = ("*",), *, most_tasks: int = _AT_ONCE) -> Worker:
    """A worker whose `run` ends when nothing is ready any more in the queues ("*": all), or after so many tasks."""
    return Worker(
        queue_names=list(queues),
        interval=1,
        batch=True,
        backend_name=DEFAULT_TASK_BACKEND_ALIAS,
        startup_delay=False,
        max_tasks=most_tasks,
        worker_id=get_random_string(32),
        excluded_queue_names=[],
    )


def tidy() -> int:
    """Give the tasks of killed processes to others, and delete what was done long ago. How many were deleted."""
    now = timezone.now()
    lost = DBTaskResult.objects.filter(status=TaskResultStatus.RUNNING, started_at__lt=now - RESCUE_AFTER)
    if rescued := lost.update(status=TaskResultStatus.READY):
        log.warning("tasks of a process that is gone run again", count=rescued)
    done = DBTaskResult.objects.finished().filter(finished_at__lt=now - KEPT_FOR).order_by("finished_at")
    return DBTaskResult.objects.filter(pk__in=list(done.values_list("pk", flat=True)[:_PURGE_ROWS])).delete()[0]
