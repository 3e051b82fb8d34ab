"""The thread of SQLite's ledger: pieces in their order, each answer to who asked, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import pytest

from billing.ledger.thread import WorkThread
from tests.programs import ROOT


def test_one_thread_does_the_pieces_in_the_order_in_which_they_were_asked_for() -> None:
    threads: list[int] = []

    def note(number: int) -> int:
        threads.append(threading.get_ident())
        return number

    async def ask() -> list[int]:
        thread = WorkThread("test")
        answers = await asyncio.gather(*(thread.do(functools.partial(note, number)) for number in range(50)))
        thread.stop()
        return answers

    assert asyncio.run(ask()) == list(range(50))
    assert len(threads) == 50
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_what_the_work_raises_is_raised_where_it_was_asked_for_and_the_thread_goes_on(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    async def ask() -> int:
        thread = WorkThread("test")
        with pytest.raises(error):
            await thread.do(fail)
        answer = await thread.do(lambda: 7)
        thread.stop()
        return answer

    assert asyncio.run(ask()) == 7


def test_who_is_cancelled_stops_no_piece_that_has_begun_and_lets_none_begin() -> None:
    has_begun, may_end = threading.Event(), threading.Event()
    done: list[str] = []
    complaints: list[dict[str, Any]] = []

    def first() -> None:
        has_begun.set()
        may_end.wait(10)
        done.append("first")

    async def ask() -> list[type[object]]:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        thread = WorkThread("test")
        running = asyncio.create_task(thread.do(first))
        waiting = asyncio.create_task(thread.do(lambda: done.append("second")))
        await asyncio.to_thread(has_begun.wait, 10)
        running.cancel()
        waiting.cancel()
        ends = await asyncio.gather(running, waiting, return_exceptions=True)
        may_end.set()
        await thread.do(lambda: done.append("third"))
        thread.stop()
        return [type(end) for end in ends]

    assert asyncio.run(ask()) == [asyncio.CancelledError, asyncio.CancelledError]
    assert done == ["first", "third"]
    assert complaints == []


def test_a_stop_waits_for_what_was_asked_for_though_the_loop_that_asked_is_gone() -> None:
    thread = WorkThread("of-no-loop")
    done: list[int] = []

    def work() -> None:
        time.sleep(0.2)
        done.append(1)

    async def ask() -> None:
        task = asyncio.create_task(thread.do(work))
        await asyncio.sleep(0.05)  # It has begun; the end of the loop cancels who waits.
        assert not task.done()

    asyncio.run(ask())
    thread.stop()
    assert done == [1]
    assert "of-no-loop" not in [one.name for one in threading.enumerate()]


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_a_piece_is_kept_while_the_next_one_is_waited_for(fails: bool) -> None:  # noqa: FBT001 - a case
    class Held:
        def work(self) -> None:
            if fails:
                raise ValueError

    async def ask() -> bool:
        thread = WorkThread("test")
        held = Held()
        kept = weakref.ref(held)
        with contextlib.suppress(ValueError):
            await thread.do(held.work)
        del held
        for _ in range(100):  # The thread lets go a moment after it has answered.
            if kept() is None:
                break
            await asyncio.sleep(0.01)
        is_kept = kept() is not None
        thread.stop()
        return is_kept

    gc.disable()
    try:
        assert not asyncio.run(ask())
    finally:
        gc.enable()


def test_a_thread_that_could_not_begin_is_tried_again() -> None:
    """A process that may have no more threads at this moment gets an error, and no work that nobody does."""
    program = """
import asyncio, resource, sys
from billing.ledger.thread import WorkThread

async def main():
    thread = WorkThread("test")
    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as told:
        used = int(told.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 1_900_000, hard))  # a thread's stack is larger
    try:
        await thread.do(lambda: 1)
    except RuntimeError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    print(await asyncio.wait_for(thread.do(lambda: 2), 10))
    thread.stop()

asyncio.run(main())
"""
    assert _run(program) == ["can't start new thread", "2"]


def test_work_that_hangs_does_not_keep_a_process_from_its_end() -> None:
    program = """
import asyncio, time
from billing.ledger.thread import WorkThread

async def main():
    task = asyncio.create_task(WorkThread("test").do(lambda: time.sleep(60)))
    await asyncio.sleep(0.1)
    print("leaves", task.done())

asyncio.run(main())
"""
    assert _run(program) == ["leaves False"]


def _run(program: str) -> list[str]:
    """The lines that it prints, in a process that must end within half of what hangs."""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.splitlines()
