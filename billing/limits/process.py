"""The counters of one process, which allows its share of each limit.

Nothing here suspends, although the library's functions are coroutines: each decision is one step of the event loop, so
two requests cannot take the same place. What is counted dies with the process.
"""

from __future__ import annotations

import asyncio

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from billing.apikeys import Principal
from billing.limits.window import WINDOW_S, Refusal, Verdict, Window


class ProcessCounters:
    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._storage = MemoryStorage()
        self._strategy = SlidingWindowCounterRateLimiter(self._storage)
        self._places: dict[str, int] = {}

    async def stop(self) -> None:
        """Ends the library's own task, which clears old counts away."""
        timer = self._storage.timer
        if timer is not None:
            timer.cancel()
            await asyncio.wait({timer})

    async def take(self, principal: Principal) -> Verdict:
        name = str(principal.api_key_id)
        max_places = self._share(principal.max_concurrent_requests)
        max_requests = self._share(principal.max_requests_per_minute)
        is_full = max_places is not None and self._places.get(name, 0) >= max_places
        refusal = Refusal.CONCURRENCY if is_full else Refusal.NONE
        window = None
        if max_requests is not None:
            item = RateLimitItemPerMinute(max_requests)
            # A request that finds no place is not counted, but told if it has to wait for both.
            ask = self._strategy.test if is_full else self._strategy.hit
            if not await ask(item, name):
                refusal = Refusal.REQUESTS
            window = await self._window(item, name)
        if refusal or max_places is None:
            return Verdict(refusal, window)
        self._places[name] = self._places.get(name, 0) + 1
        return Verdict(refusal, window, place=name)

    def give_back(self, place: str) -> None:
        self._places[place] -= 1
        if not self._places[place]:
            del self._places[place]

    async def _window(self, item: RateLimitItemPerMinute, name: str) -> Window:
        counts = await self._storage.get_sliding_window(item.key_for(name), item.get_expiry())
        # The last number is the time until the running minute has faded, which is one minute after its end.
        previous, _, current, faded_in_s = counts
        return Window(limit=item.amount, previous=previous, current=current, left_s=faded_in_s - WINDOW_S)

    def _share(self, limit: int | None) -> int | None:
        return None if limit is None else -(-limit // self._workers)
