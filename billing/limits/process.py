"""The counters of one process, which allows its share of each limit.

Nothing here suspends, although the library's functions are coroutines: each decision is one step of the event loop, so
two requests cannot take the same place. What is counted dies with the process.

Tokens are counted here, not by the library, which refuses to count what is above a limit.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from billing.limits.window import DAY_S, WINDOW_S, Counted, Day, Refusal, Verdict, Window


class ProcessCounters:
    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._storage = MemoryStorage()
        self._strategy = SlidingWindowCounterRateLimiter(self._storage)
        self._places: dict[str, int] = {}
        self._tokens = _TokenCounts()

    async def stop(self) -> None:
        """Ends the library's own task, which clears old counts away."""
        timer = self._storage.timer
        if timer is not None:
            timer.cancel()
            await asyncio.wait({timer})

    async def take(self, counted: Counted) -> Verdict:
        name = str(counted.counted_id)
        max_places = self._share(counted.max_concurrent_requests)
        max_requests = self._share(counted.max_requests_per_minute)
        tokens, daily_tokens = self._tokens_left(counted)
        is_full = max_places is not None and self._places.get(name, 0) >= max_places
        refusal = _refusal_for_tokens(tokens, daily_tokens)
        window = None
        if max_requests is not None:
            item = RateLimitItemPerMinute(max_requests)
            # A request that is refused is not counted, but told which of its waits is the longest.
            ask = self._strategy.test if refusal or is_full else self._strategy.hit
            if not await ask(item, name) and not refusal:
                refusal = Refusal.REQUESTS
            window = await self._window(item, name)
        if is_full and not refusal:
            refusal = Refusal.CONCURRENCY
        place = ""
        if not refusal and max_places is not None:
            self._places[name] = self._places.get(name, 0) + 1
            place = name
        return Verdict(refusal, window, place, tokens, daily_tokens)

    def spend(self, counted: Counted, tokens: int) -> None:
        self._tokens.add(str(counted.counted_id), tokens)

    def give_back(self, place: str) -> None:
        self._places[place] -= 1
        if not self._places[place]:
            del self._places[place]

    async def _window(self, item: RateLimitItemPerMinute, name: str) -> Window:
        counts = await self._storage.get_sliding_window(item.key_for(name), item.get_expiry())
        # The last number is the time until the running minute has faded, which is one minute after its end.
        previous, _, current, faded_in_s = counts
        return Window(limit=item.amount, previous=previous, current=current, left_s=faded_in_s - WINDOW_S)

    def _tokens_left(self, counted: Counted) -> tuple[Window | None, Day | None]:
        per_minute, per_day = self._share(counted.max_tokens_per_minute), self._share(counted.max_tokens_daily)
        if per_minute is None and per_day is None:
            return None, None
        used = self._tokens.used(str(counted.counted_id))
        return (
            None if per_minute is None else Window(per_minute, used.previous, used.current, used.minute_left_s),
            None if per_day is None else Day(per_day, used.today, used.day_left_s),
        )

    def _share(self, limit: int | None) -> int | None:
        return None if limit is None else -(-limit // self._workers)


def _refusal_for_tokens(tokens: Window | None, daily_tokens: Day | None) -> Refusal:
    if daily_tokens is not None and not daily_tokens.remaining:
        return Refusal.DAILY_TOKENS
    if tokens is not None and not tokens.remaining:
        return Refusal.TOKENS
    return Refusal.NONE


class _Used(NamedTuple):
    previous: int
    current: int
    minute_left_s: float
    today: int
    day_left_s: float


class _TokenCounts:
    """Tokens by key, of this clock minute, the last one, and this day in UTC; what is older is dropped as time passes."""

    def __init__(self) -> None:
        self._minute = 0
        self._day = 0
        self._current: dict[str, int] = {}
        self._previous: dict[str, int] = {}
        self._today: dict[str, int] = {}

    def add(self, name: str, tokens: int) -> None:
        self._turn(time.time())
        self._current[name] = self._current.get(name, 0) + tokens
        self._today[name] = self._today.get(name, 0) + tokens

    def used(self, name: str) -> _Used:
        now_s = time.time()
        self._turn(now_s)
        return _Used(
            self._previous.get(name, 0),
            self._current.get(name, 0),
            WINDOW_S - now_s % WINDOW_S,
            self._today.get(name, 0),
            DAY_S - now_s % DAY_S,
        )

    def _turn(self, now_s: float) -> None:
        """A clock that goes back leaves the counts as they are."""
        minute, day = int(now_s // WINDOW_S), int(now_s // DAY_S)
        if minute > self._minute:
            self._previous = self._current if minute == self._minute + 1 else {}
            self._current = {}
            self._minute = minute
        if day > self._day:
            self._today = {}
            self._day = day
