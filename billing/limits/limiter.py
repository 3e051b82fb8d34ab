"""The pipeline's stage `limit`: one request in, or one of the two refusals.

Chooses the counters (Redis if there is one and it answers, else the process) and words their verdict as headers.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType

import msgspec

from billing.apikeys import Principal
from billing.errors import ConcurrencyLimitExceeded, RateLimitExceeded
from billing.limits.process import ProcessCounters
from billing.limits.shared import SharedCounters
from billing.limits.window import Refusal, Verdict, Window, duration
from infery_site.errors import Header

REDIS_TIMEOUT_S = 0.05
REDIS_RETRY_S = 1.0
PLACE_LEASE_S = 60.0

logger = logging.getLogger(__name__)


class Slot(msgspec.Struct, frozen=True):
    """A request that was let in. `headers` belong on its answer; there are none for a key without limits."""

    headers: tuple[Header, ...] = ()


class _Unlimited(AbstractAsyncContextManager[Slot]):
    """The slot of every key without limits: one object, and nothing to wait for."""

    _slot = Slot()

    async def __aenter__(self) -> Slot:
        return self._slot

    async def __aexit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


_UNLIMITED = _Unlimited()


class Limiter:
    """One per process and event loop. `workers` is how many processes share the limits when there is no Redis.

    `place_lease_s` is how long a place outlives a process that was killed.
    """

    def __init__(
        self,
        *,
        workers: int,
        redis_url: str,
        redis_timeout_s: float = REDIS_TIMEOUT_S,
        redis_retry_s: float = REDIS_RETRY_S,
        place_lease_s: float = PLACE_LEASE_S,
    ) -> None:
        if workers < 1:
            raise ValueError("workers must be at least 1")
        self._workers = workers
        self._process = ProcessCounters(workers)
        self._shared: SharedCounters | None = None
        if redis_url:
            self._shared = SharedCounters(redis_url, timeout_s=redis_timeout_s, retry_s=redis_retry_s, lease_s=place_lease_s)

    async def start(self) -> None:
        """Looks for Redis once, for a second at most; if it is away, the search goes on in the background."""
        if self._shared is not None:
            await self._shared.start()
        elif self._workers > 1:
            logger.info("No REDIS_URL: each of %d processes allows its share of a limit, rounded up", self._workers)

    async def stop(self) -> None:
        await self._process.stop()
        if self._shared is not None:
            await self._shared.stop()

    def slot(self, principal: Principal) -> AbstractAsyncContextManager[Slot]:
        """Counts one request and takes one place, which is given back on exit.

        Raises RateLimitExceeded or ConcurrencyLimitExceeded on entry; then neither was counted.
        """
        if principal.max_requests_per_minute is None and principal.max_concurrent_requests is None:
            return _UNLIMITED
        return self._limited(principal)

    @asynccontextmanager
    async def _limited(self, principal: Principal) -> AsyncIterator[Slot]:
        if self._shared is not None and (verdict := await self._shared.take(principal)) is not None:
            slot = _admitted(principal, verdict)
            try:
                yield slot
            finally:
                if verdict.place:
                    self._shared.give_back(verdict.place)
            return
        verdict = await self._process.take(principal)
        slot = _admitted(principal, verdict, is_degraded=self._shared is not None)
        try:
            yield slot
        finally:
            if verdict.place:
                self._process.give_back(verdict.place)


def _admitted(principal: Principal, verdict: Verdict, *, is_degraded: bool = False) -> Slot:
    headers = _headers(principal, verdict.window, is_degraded=is_degraded)
    if verdict.refusal is Refusal.CONCURRENCY:
        raise ConcurrencyLimitExceeded(principal.max_concurrent_requests or 0, headers=headers)
    if verdict.refusal is Refusal.REQUESTS:
        retry_after_s = verdict.window.retry_after_s() if verdict.window else 1
        raise RateLimitExceeded(principal.max_requests_per_minute or 0, retry_after_s=retry_after_s, headers=headers)
    return Slot(headers)


def _headers(principal: Principal, window: Window | None, *, is_degraded: bool) -> tuple[Header, ...]:
    """`limit` is the key's; `remaining` is what this process would still let through, which is less without Redis."""
    headers: list[Header] = []
    if window is not None:
        headers += [
            ("x-ratelimit-limit-requests", str(principal.max_requests_per_minute)),
            ("x-ratelimit-remaining-requests", str(window.remaining)),
            ("x-ratelimit-reset-requests", duration(window.reset_s())),
        ]
    if is_degraded:
        headers.append(("x-ratelimit-degraded", "true"))
    return tuple(headers)
