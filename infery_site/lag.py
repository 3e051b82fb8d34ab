"""Who keeps the event loop: when it has not turned for a while, the log tells where its thread stands.

One request that computes, or waits for something in the loop instead of in a thread, makes all others wait, and nothing shows
whose fault that is. A thread of its own looks whether the loop still moves a mark. Where that thread was kept from looking,
too, as on a machine that has no time for the process, the loop is not to blame and nothing is said.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import threading
import time
import traceback

LOOK_EVERY_S = 0.1
TOLD_EVERY_S = 10.0
LATE_S = 0.05
FRAMES = 20

logger = logging.getLogger(__name__)


class LoopWatch:
    """For one event loop; `start` it there. Tells of a stall of more than `limit_s` once, and every ten seconds at the most."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._moved_s = 0.0

    def start(self) -> None:
        self._move(asyncio.get_running_loop())
        self._thread = threading.Thread(target=self._look, args=(threading.get_ident(),), name="loop-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._thread.join()

    def _move(self, loop: asyncio.AbstractEventLoop) -> None:
        self._moved_s = time.monotonic()
        self._timer = loop.call_later(LOOK_EVERY_S, self._move, loop)

    def _look(self, loop_thread: int) -> None:
        told_of_s, told_s = 0.0, -TOLD_EVERY_S
        while True:
            slept_s = time.monotonic()
            if self._is_over.wait(LOOK_EVERY_S):
                return
            now_s, moved_s = time.monotonic(), self._moved_s
            is_late = now_s - slept_s > LOOK_EVERY_S + LATE_S
            if (
                is_late
                or moved_s == told_of_s
                or now_s - moved_s <= LOOK_EVERY_S + self._limit_s
                or now_s - told_s < TOLD_EVERY_S
            ):
                continue
            told_of_s, told_s = moved_s, now_s
            lag_ms = round((now_s - moved_s) * 1000)
            logger.warning("the event loop stands still", extra={"duration_ms": lag_ms, "stack": _places_of(loop_thread)})


def _places_of(thread: int) -> str:
    """Where a thread is, innermost first, without a word of what it works on."""
    frame = sys._current_frames().get(thread)  # the only way to see another thread
    places = itertools.islice(traceback.walk_stack(frame), FRAMES) if frame is not None else ()
    return " < ".join([f"{place.f_code.co_filename}:{line} {place.f_code.co_name}" for place, line in places])
