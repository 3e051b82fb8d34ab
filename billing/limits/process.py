"""The counters of one process, which allows its share of each limit.

Nothing here suspends, although the library's functions are coroutines: each decision is one step of the event loop, so
two requests cannot take the same place. What is counted dies with the process.

Tokens are counted here, not by the library, which refuses to count what is above a limit; so are the requests of a day, of
which the library would keep a sliding one.
"""

from __future__ import annotations

import asyncio
import time

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
        self._requests_today = _Today()

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
        max_daily = self._share(counted.max_requests_daily)
        tokens, daily_tokens = self._tokens_left(counted)
        is_full = max_places is not None and self._places.get(name, 0) >= max_places
        refusal = _refusal_for_what_is_used(tokens, daily_tokens, self._requests_today.day(name, max_daily))
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
        if not refusal and max_daily is not None:
            self._requests_today.add(name, 1)
        return Verdict(refusal, window, place, tokens, daily_tokens, self._requests_today.day(name, max_daily))

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
        name = str(counted.counted_id)
        return (
            self._tokens.minute(name, self._share(counted.max_tokens_per_minute)),
            self._tokens.today.day(name, self._share(counted.max_tokens_daily)),
        )

    def _share(self, limit: int | None) -> int | None:
        return None if limit is None else -(-limit // self._workers)


def _refusal_for_what_is_used(tokens: Window | None, daily_tokens: Day | None, daily_requests: Day | None) -> Refusal:
    if daily_tokens is not None and not daily_tokens.remaining:
        return Refusal.DAILY_TOKENS
    if daily_requests is not None and not daily_requests.remaining:
        return Refusal.DAILY_REQUESTS
    if tokens is not None and not tokens.remaining:
        return Refusal.TOKENS
    return Refusal.NONE


class _Today:
    """Requests or tokens by key, of this day in UTC. A clock that goes back leaves the counts as they are."""

    def __init__(self) -> None:
        self._day = 0
        self._counts: dict[str, int] = {}

    def add(self, name: str, count: int) -> None:
        self._turn(time.time())
        self._counts[name] = self._counts.get(name, 0) + count

    def day(self, name: str, limit: int | None) -> Day | None:
        """None without a limit."""
        if limit is None:
            return None
        now_s = time.time()
        self._turn(now_s)
        return Day(limit, self._counts.get(name, 0), DAY_S - now_s % DAY_S)

    def _turn(self, now_s: float) -> None:
        day = int(now_s // DAY_S)
        if day > self._day:
            self._counts = {}
            self._day = day


class _TokenCounts:
    """Tokens by key, of this clock minute, the last one, and this day; what is older is dropped as time passes."""

    def __init__(self) -> None:
        self.today = _Today()
        self._minute = 0
        self._current: dict[str, int] = {}
        self._previous: dict[str, int] = {}

    def add(self, name: str, tokens: int) -> None:
        self._turn(time.time())
        self._current[name] = self._current.get(name, 0) + tokens
        self.today.add(name, tokens)

    def minute(self, name: str, limit: int | None) -> Window | None:
        """None without a limit."""
        if limit is None:
            return None
        now_s = time.time()
        self._turn(now_s)
        return Window(limit, self._previous.get(name, 0), self._current.get(name, 0), WINDOW_S - now_s % WINDOW_S)

    def _turn(self, now_s: float) -> None:
        """A clock that goes back leaves the counts as they are."""
        minute = int(now_s // WINDOW_S)
        if minute > self._minute:
            self._previous = self._current if minute == self._minute + 1 else {}
            self._current = {}
            self._minute = minute
