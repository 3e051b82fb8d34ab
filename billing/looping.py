"""Blocking work that comes round for as long as a process serves, on a thread and a database connection of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import structlog
from django.db import connections

log = structlog.get_logger(__name__)


class ThreadLoop:
    """`work` is called again and again, `every_s()` seconds after it returned. It raises nothing.

    `stop_within_s` is how long a stop waits for a round that is running.
    """

    def __init__(
        self, name: str, work: Callable[[], object], every_s: Callable[[], float], *, stop_within_s: float = 15.0
    ) -> None:
        self._name = name
        self._work = work
        self._every_s = every_s
        self._stop_within_s = stop_within_s
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        self._leaving.clear()
        # A daemon, so that the end of the process waits for nothing that hangs.
        self._thread = threading.Thread(target=self._work_for_ever, name=self._name, daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Lets a round that is running end, unless it takes too long."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._leaving.set()
        await asyncio.to_thread(thread.join, self._stop_within_s)
        if thread.is_alive():
            log.warning("work is left in the middle of a round", chore=self._name)

    def _work_for_ever(self) -> None:
        while not self._leaving.is_set():
            self._work()
            self._leaving.wait(self._every_s())
        connections.close_all()
