"""One piece of work for all who want its result at the same time, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Sharing(Generic[T]):
    """Bound to the event loop that works in it.

    Whoever asks first starts the work, whoever asks while it runs waits for the same; a failure is everybody's. Who leaves
    takes nothing from the others; the work is cancelled when nobody waits for it any more.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, _Work[T]] = {}

    async def result(self, key: Hashable, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result for `key`."""
        work = self._running.get(key)
        if work is None:
            work = self._running[key] = _Work(asyncio.create_task(start()))
            work.task.add_done_callback(lambda task: self._forget(key, task))
        work.waiting += 1
        try:
            return await asyncio.shield(work.task)
        finally:
            work.waiting -= 1
            if not work.waiting and not work.task.done():
                self._forget(key, work.task)
                work.task.cancel()
                await asyncio.wait({work.task})

    def _forget(self, key: Hashable, task: asyncio.Task[T]) -> None:
        work = self._running.get(key)
        if work is not None and work.task is task:
            del self._running[key]
        if task.done() and not task.cancelled():
            task.exception()  # told to those who waited, if there were any


class _Work(Generic[T]):
    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.waiting = 0
