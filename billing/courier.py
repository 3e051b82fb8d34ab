"""Runs what was enqueued as a task (`django_tasks`): mails, and whatever else takes its time at a stranger's.

Every serving process takes tasks, on a thread of its own, so that none of them keeps housekeeping or a request waiting;
`manage.py db_worker` does the same in a process of its own. A task is claimed by a row, so that one process runs it; that of
a process which was killed is given to another one after RESCUE_AFTER. Tasks are therefore such that they may run twice.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db import close_old_connections
from django.utils import timezone
from django.utils.crypto import get_random_string
from django_tasks import DEFAULT_TASK_BACKEND_ALIAS
from django_tasks.base import TaskResultStatus
from django_tasks_db.management.commands.db_worker import Worker
from django_tasks_db.models import DBTaskResult

from billing.looping import ThreadLoop

log = structlog.get_logger(__name__)

RESCUE_AFTER: Final = timedelta(minutes=10)
KEPT_FOR: Final = timedelta(days=7)
# So that a process that stops waits for no more.
_AT_ONCE: Final = 20
_PURGE_ROWS: Final = 2_000


class Courier(ThreadLoop):
    """The tasks of one serving process."""

    def __init__(self) -> None:
        super().__init__("courier", self._deliver, lambda: settings.TASKS_EVERY_S)
        self._worker: Worker | None = None

    async def stop(self) -> None:
        """Lets the task that is running end, and begins no other."""
        if self._worker is not None:
            self._worker.running = False
        await super().stop()

    def _deliver(self) -> None:
        try:
            close_old_connections()
            # A look costs less than the worker's, which takes SQLite's lock for it.
            if DBTaskResult.objects.ready().exists():
                self._worker = new_worker()
                self._worker.run()
        except Exception:
            log.exception("tasks could not be run")
        finally:
            self._worker = None
            close_old_connections()


def new_worker() -> Worker:
    """A worker whose `run` ends when nothing is ready any more, or after so many tasks."""
    return Worker(
        queue_names=["*"],
        interval=1,
        batch=True,
        backend_name=DEFAULT_TASK_BACKEND_ALIAS,
        startup_delay=False,
        max_tasks=_AT_ONCE,
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
