"""The thread of SQLite's ledger: pieces in their order, each answer to who asked, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
import weakref

import pytest

from billing.ledger.thread import WorkThread


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

    def first() -> None:
        has_begun.set()
        may_end.wait(10)
        done.append("first")

    async def ask() -> list[type[object]]:
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


def test_nothing_of_a_piece_is_kept_while_the_next_one_is_waited_for() -> None:
    class Held:
        def work(self) -> None:
            pass

    async def ask() -> bool:
        thread = WorkThread("test")
        held = Held()
        kept = weakref.ref(held)
        await thread.do(held.work)
        del held
        for _ in range(100):  # The thread lets go a moment after it has answered.
            if kept() is None:
                break
            await asyncio.sleep(0.01)
        is_kept = kept() is not None
        thread.stop()
        return is_kept

    assert not asyncio.run(ask())
