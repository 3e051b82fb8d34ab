"""The pipeline's stage `limit`: one request in, or one of the refusals; and the tokens it has used, when it has ended.

Chooses the counters (Redis if there is one and it answers, else the process) and words their verdict as headers.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

import msgspec

from billing.apikeys import Principal
from billing.errors import ConcurrencyLimitExceeded, RateLimitExceeded, TokensLimitExceeded
from billing.limits.process import ProcessCounters
from billing.limits.window import Day, Named, Refusal, Verdict, Window, duration
from infery_site.errors import NO_RETRY, Header

if TYPE_CHECKING:
    from billing.limits.shared import SharedCounters

REDIS_TIMEOUT_S = 0.05
REDIS_RETRY_S = 1.0
PLACE_LEASE_S = 60.0
PATIENCE_S = 60

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

    `place_lease_s` is how long a place outlives a process that was killed. `serving` is the one that was started.
    """

    serving: ClassVar[Limiter | None] = None

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
            # Its client takes a third of a second to import, which who has no Redis need not wait for.
            from billing.limits.shared import SharedCounters  # noqa: PLC0415

            self._shared = SharedCounters(redis_url, timeout_s=redis_timeout_s, retry_s=redis_retry_s, lease_s=place_lease_s)

    async def start(self) -> None:
        """Looks for Redis once, for a second at most; if it is away, the search goes on in the background."""
        Limiter.serving = self
        if self._shared is not None:
            await self._shared.start()
        elif self._workers > 1:
            logger.info("No REDIS_URL: each of %d processes allows its share of a limit, rounded up", self._workers)

    async def stop(self) -> None:
        if Limiter.serving is self:
            Limiter.serving = None
        await self._process.stop()
        if self._shared is not None:
            await self._shared.stop()

    def slot(self, principal: Principal) -> AbstractAsyncContextManager[Slot]:
        """Counts one request and takes one place, which is given back on exit.

        Raises RateLimitExceeded, ConcurrencyLimitExceeded or TokensLimitExceeded on entry; then nothing was counted.
        """
        is_limited = has_request_limit(principal) or principal.max_concurrent_requests is not None
        return self._limited(principal) if is_limited or _has_token_limit(principal) else _UNLIMITED

    def slot_without_tokens(self, principal: Principal) -> AbstractAsyncContextManager[Slot]:
        """The same for a request that can use none: that tokens are used up is no reason to refuse it."""
        return self.slot(msgspec.structs.replace(principal, max_tokens_per_minute=None, max_tokens_daily=None))

    async def count(self, principal: Principal) -> Slot:
        """Counts a request that is answered at once: it uses no tokens, and takes no place. Raises RateLimitExceeded."""
        async with self.slot_without_tokens(msgspec.structs.replace(principal, max_concurrent_requests=None)) as slot:
            return slot

    async def wait_s(self, name: str, most_per_minute: int) -> int:
        """Counts what is no request of a key, under a name of its own: 0, or uncounted the whole seconds until one may be."""
        named = Named(name, most_per_minute)
        verdict = await self._shared.take(named) if self._shared is not None else None
        if verdict is None:
            verdict = await self._process.take(named)
        return _retry_after_s(verdict.window) if verdict.refusal else 0

    def spend(self, principal: Principal, tokens: int) -> None:
        """Counts the tokens of a request that has ended; the key's next requests are judged by them. Does not wait."""
        if tokens <= 0 or not _has_token_limit(principal):
            return
        if self._shared is None or not self._shared.spend(principal, tokens):
            self._process.spend(principal, tokens)

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


def has_request_limit(principal: Principal) -> bool:
    return principal.max_requests_per_minute is not None or principal.max_requests_daily is not None


def _has_token_limit(principal: Principal) -> bool:
    return principal.max_tokens_per_minute is not None or principal.max_tokens_daily is not None


def _admitted(principal: Principal, verdict: Verdict, *, is_degraded: bool = False) -> Slot:
    headers = _headers(principal, verdict, is_degraded=is_degraded)
    match verdict.refusal:
        case Refusal.NONE:
            return Slot(headers)
        case Refusal.CONCURRENCY:
            raise ConcurrencyLimitExceeded(principal.max_concurrent_requests or 0, headers=headers)
        case Refusal.REQUESTS:
            retry_after_s, limit = _retry_after_s(verdict.window), principal.max_requests_per_minute or 0
            headers = _told(headers, retry_after_s)
            raise RateLimitExceeded(limit, period="minute", retry_after_s=retry_after_s, headers=headers)
        case Refusal.DAILY_REQUESTS:
            retry_after_s, limit = _retry_after_s(verdict.daily_requests), principal.max_requests_daily or 0
            headers = _told(headers, retry_after_s)
            raise RateLimitExceeded(limit, period="day", retry_after_s=retry_after_s, headers=headers)
        case Refusal.TOKENS:
            retry_after_s, limit = _retry_after_s(verdict.tokens), principal.max_tokens_per_minute or 0
            headers = _told(headers, retry_after_s)
            raise TokensLimitExceeded(limit, period="minute", retry_after_s=retry_after_s, headers=headers)
        case Refusal.DAILY_TOKENS:
            retry_after_s, limit = _retry_after_s(verdict.daily_tokens), principal.max_tokens_daily or 0
            headers = _told(headers, retry_after_s)
            raise TokensLimitExceeded(limit, period="day", retry_after_s=retry_after_s, headers=headers)


def _told(headers: tuple[Header, ...], retry_after_s: int) -> tuple[Header, ...]:
    """With the word that no retry helps where the wait is longer than the official SDKs keep to: they would ask at once."""
    return headers if retry_after_s <= PATIENCE_S else (*headers, NO_RETRY)


def _retry_after_s(window: Window | Day | None) -> int:
    return window.retry_after_s() if window else 1


def _headers(principal: Principal, verdict: Verdict, *, is_degraded: bool) -> tuple[Header, ...]:
    """`limit` is the key's; `remaining` is what this process would still let through, which is less without Redis.

    Of the two limits of requests, and of those of tokens, the headers tell the one of which less remains.
    """
    headers = [
        *_counted(
            "requests",
            (principal.max_requests_per_minute, verdict.window),
            (principal.max_requests_daily, verdict.daily_requests),
        ),
        *_counted(
            "tokens", (principal.max_tokens_per_minute, verdict.tokens), (principal.max_tokens_daily, verdict.daily_tokens)
        ),
    ]
    if is_degraded:
        headers.append(("x-ratelimit-degraded", "true"))
    return tuple(headers)


def _counted(what: str, of_minute: tuple[int | None, Window | None], of_day: tuple[int | None, Day | None]) -> list[Header]:
    """Of the two, each with the key's limit, the one of which less remains; nothing where there is none."""
    window: Window | Day | None
    (limit, window), (daily_limit, day) = of_minute, of_day
    if day is not None and (window is None or day.remaining < window.remaining):
        limit, window = daily_limit, day
    if window is None:
        return []
    return [
        (f"x-ratelimit-limit-{what}", str(limit)),
        (f"x-ratelimit-remaining-{what}", str(window.remaining)),
        (f"x-ratelimit-reset-{what}", duration(window.reset_s())),
    ]
