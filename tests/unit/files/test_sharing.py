from __future__ import annotations

import asyncio

import pytest

from files.sharing import Sharing


class Kitchen:
    """Work that ends when it is told to."""

    def __init__(self):
        self.started = 0
        self.cancelled = 0
        self.may_end = asyncio.Event()

    async def cook(self):
        self.started += 1
        number = self.started
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if number == 13:
            raise ValueError("burnt")
        return number


async def asking(sharing, kitchen, key, count):
    tasks = [asyncio.create_task(sharing.result(key, kitchen.cook)) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_all_who_ask_at_the_same_time_share_one_result():
    sharing, kitchen = Sharing(), Kitchen()
    tasks = await asking(sharing, kitchen, "soup", 10)
    kitchen.may_end.set()
    results = await asyncio.gather(*tasks)
    assert kitchen.started == 1
    assert results == [1] * 10


async def test_whoever_comes_later_starts_anew():
    sharing, kitchen = Sharing(), Kitchen()
    kitchen.may_end.set()
    assert [await sharing.result("soup", kitchen.cook) for _ in range(2)] == [1, 2]
    assert await sharing.result("bread", kitchen.cook) == 3


async def test_who_leaves_takes_nothing_from_the_others():
    sharing, kitchen = Sharing(), Kitchen()
    first, second = await asking(sharing, kitchen, "soup", 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert kitchen.cancelled == 0
    kitchen.may_end.set()
    assert await second == 1


async def test_the_work_ends_with_the_last_who_waits():
    sharing, kitchen = Sharing(), Kitchen()
    tasks = await asking(sharing, kitchen, "soup", 3)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert kitchen.cancelled == 1
    kitchen.may_end.set()
    assert await sharing.result("soup", kitchen.cook) == 2


async def test_a_failure_is_everybodys_and_is_not_kept():
    sharing, kitchen = Sharing(), Kitchen()
    kitchen.started = 12
    tasks = await asking(sharing, kitchen, "soup", 3)
    kitchen.may_end.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["burnt"] * 3
    assert await sharing.result("soup", kitchen.cook) == 14
