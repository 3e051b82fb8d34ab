from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from billing.limits.window import WINDOW_S, Day, Window, duration
from tests.unit.billing.limits.asking import Clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (1, "1s"), (59, "59s"), (60, "1m0s"), (119, "1m59s"), (360, "6m0s"), (3600, "1h0m0s"), (86399, "23h59m59s")],
)
def test_duration_is_written_in_minutes_and_seconds(seconds: int, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("window", "remaining", "retry_after_s", "reset_s"),
    [
        (Window(limit=10, previous=0, current=0, left_s=30.0), 10, 1, 0),
        (Window(limit=10, previous=0, current=1, left_s=30.0), 9, 1, 31),
        # Ten fade over the next minute: the first of them leaves at once, the last six seconds before its end.
        (Window(limit=10, previous=0, current=10, left_s=30.0), 0, 31, 85),
        # Ten of the last minute weigh 5 now; with 5 of this one the limit is met.
        (Window(limit=10, previous=10, current=5, left_s=30.0), 0, 1, 79),
        (Window(limit=10, previous=10, current=0, left_s=60.0), 0, 1, 55),
        # The limit was lowered from 100 to 10.
        (Window(limit=10, previous=0, current=100, left_s=30.0), 0, 85, 90),
        # Tokens may go far beyond their limit: what is left of them has to fade for most of the next minute.
        (Window(limit=1000, previous=0, current=1_000_000, left_s=30.0), 0, 90, 90),
        (Window(limit=1000, previous=1_000_000, current=0, left_s=30.0), 0, 30, 30),
    ],
)
def test_window_tells_when_to_come_back(window: Window, remaining: int, retry_after_s: int, reset_s: int) -> None:
    assert (window.remaining, window.retry_after_s(), window.reset_s()) == (remaining, retry_after_s, reset_s)


@pytest.mark.parametrize(
    ("day", "remaining", "retry_after_s", "reset_s"),
    [
        (Day(limit=10, used=0, left_s=3600.0), 10, 1, 0),
        (Day(limit=10, used=9, left_s=3600.0), 1, 1, 3601),
        (Day(limit=10, used=10, left_s=0.5), 0, 1, 1),
        (Day(limit=10, used=50, left_s=3600.0), 0, 3601, 3601),
    ],
)
def test_day_tells_when_to_come_back(day: Day, remaining: int, retry_after_s: int, reset_s: int) -> None:
    assert (day.remaining, day.retry_after_s(), day.reset_s()) == (remaining, retry_after_s, reset_s)


steps = st.lists(st.tuples(st.integers(0, 45_000), st.integers(1, 6)), min_size=1, max_size=12)


@given(limit=st.integers(1, 8), steps=steps)
@example(limit=1, steps=[(285, 1), (894, 1), (2905, 1), (6916, 1)])  # 49 s to go, and by the library a little less
async def test_what_a_window_says_is_what_the_library_does(limit: int, steps: list[tuple[int, int]]) -> None:
    """After any traffic: `remaining` requests pass and no more; after `retry_after_s` one passes; after `reset_s` all do."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(time, "time", clock)
        storage = MemoryStorage()
        strategy = SlidingWindowCounterRateLimiter(storage)
        item = RateLimitItemPerMinute(limit)

        async def window() -> Window:
            previous, _, current, faded_in_s = await storage.get_sliding_window(item.key_for("key"), WINDOW_S)
            return Window(limit, previous, current, faded_in_s - WINDOW_S)

        async def passed(requests: int) -> int:
            return sum([await strategy.hit(item, "key") for _ in range(requests)])

        for pause_ms, requests in steps:
            clock.now += pause_ms / 1000
            await passed(requests)
        remaining = (await window()).remaining
        assert await passed(limit + 1) == remaining

        clock.now += (await window()).retry_after_s()
        assert await passed(1) == 1
        clock.now += (await window()).reset_s()
        assert (await window()).remaining == limit
        assert await passed(limit + 1) == limit
        if storage.timer is not None:
            await storage.timer
