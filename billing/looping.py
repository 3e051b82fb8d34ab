"""Blocking work that comes round for as long as a process serves, on a thread and a database connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from django.db import connections


class ThreadLoop:
    """`work` is called again and again, `every_s()` seconds after it returned. It raises nothing."""

    def __init__(self, name: str, work: Callable[[], object], every_s: Callable[[], float]) -> None:
        self._name = name
        self._work = work
        self._every_s = every_s
        self._thread: ThreadPoolExecutor | None = None
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._name)
        self._loop = asyncio.create_task(self._work_for_ever(self._thread), name=self._name)

    async def stop(self) -> None:
        """Lets a round that is running end."""
        if self._loop is None or self._thread is None:
            return
        self._loop.cancel()
        await asyncio.wait({self._loop})
        await asyncio.get_running_loop().run_in_executor(self._thread, connections.close_all)
        self._thread.shutdown()
        self._loop = self._thread = None

    async def _work_for_ever(self, thread: ThreadPoolExecutor) -> None:
        while True:
            await asyncio.get_running_loop().run_in_executor(thread, self._work)
            await asyncio.sleep(self._every_s())
