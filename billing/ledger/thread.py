"""A thread for blocking work that an event loop asks for, one piece after another.

Asking an executor makes two futures and a condition for each piece and copies between them. That is twice the work of the
hop itself, and a batch of the ledger that comes alone, as at the end of a stream, pays for it whole.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class WorkThread:
    """See the module. It begins with the first piece of work; `stop` it after the last."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked: SimpleQueue[_Piece | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Who is cancelled here does not stop what has begun."""
        # The future is kept by no frame: an error would hold the frame, and the future the error, until the collector comes.
        return await self._ask(work)

    def _ask(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if self._thread is None:
            # A daemon, as what it does must bear the end of the process at any time.
            thread = threading.Thread(target=_work_for_ever, args=(self._asked,), name=self._name, daemon=True)
            thread.start()
            self._thread = thread
        piece = _Piece(work)
        self._asked.put(piece)
        return piece.answer

    def stop(self) -> None:
        """Waits for the work that was asked for."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._asked.put(None)
            thread.join()


class _Piece:
    """One piece of work, and where its answer goes."""

    __slots__ = ("_loop", "_work", "answer")

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Any] = self._loop.create_future()

    def do(self) -> None:
        if self.answer.cancelled():
            return
        result, error = None, None
        try:
            result = self._work()
        except BaseException as raised:  # noqa: BLE001 - it is for who asked
            error = raised
        try:
            with suppress(RuntimeError):  # The loop is closed: nobody waits.
                self._loop.call_soon_threadsafe(self._end, result, error)
        finally:
            del self, error  # An error holds this frame, see `WorkThread.do`.

    def _end(self, result: Any, error: BaseException | None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(result)
        else:
            self.answer.set_exception(error)


def _work_for_ever(asked: SimpleQueue[_Piece | None]) -> None:
    # Nothing of the last piece is kept while the next one is waited for.
    while (piece := asked.get()) is not None:
        piece.do()
        del piece
