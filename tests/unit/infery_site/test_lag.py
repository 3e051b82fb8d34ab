"""What keeps the event loop is named in the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable

import pytest

from infery_site.lag import LoopWatch


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def told():
    """What is said, from whichever thread, as it is said."""
    handler, logger = Kept(), logging.getLogger("infery_site.lag")
    logger.addHandler(handler)
    yield handler.records
    logger.removeHandler(handler)


@pytest.fixture
async def watch() -> AsyncIterator[Callable[[float], None]]:
    made: list[LoopWatch] = []

    def start(limit_s: float) -> None:
        made.append(LoopWatch(limit_s))
        made[-1].start()

    yield start
    for one in made:
        one.stop()


def keep_the_loop(told, most_s: float) -> None:
    """Compute until that is noticed, or for so long."""
    began_s = time.monotonic()
    while not told and time.monotonic() < began_s + most_s:
        time.sleep(0.01)


async def test_whoever_keeps_the_loop_is_told_once(watch, told):
    watch(0.1)
    keep_the_loop(told, 10)
    time.sleep(0.5)  # noqa: ASYNC251 - this is what is looked for
    [record] = told
    assert record.duration_ms > 100
    assert "test_lag.py" in record.stack
    assert "keep_the_loop" in record.stack
    assert "began_s" not in record.stack, "places, and no lines of code"


async def test_a_loop_that_turns_is_left_in_peace(watch, told):
    watch(30)
    for _ in range(30):
        await asyncio.sleep(0.01)
    keep_the_loop(told, 0.3)
    assert told == []


@pytest.mark.slow
async def test_a_loop_that_waits_for_nothing_but_its_timers_turns(watch, told):
    """Nothing to do is not a stall."""
    watch(1)
    await asyncio.sleep(2)
    assert told == []
