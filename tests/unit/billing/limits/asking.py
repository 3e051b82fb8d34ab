"""Keys with limits, a limiter that runs, and ways to ask it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from billing.apikeys import Principal
from billing.errors import ConcurrencyLimitExceeded, RateLimitExceeded, TokensLimitExceeded
from billing.limits import Limiter

NOON = datetime(2026, 3, 18, 12, tzinfo=UTC).timestamp()
REFUSALS = (RateLimitExceeded, ConcurrencyLimitExceeded, TokensLimitExceeded)
WAITS_BESIDE_A_DAY = [
    ({"daily_tokens": 5}, "Token limit: 5 tokens/day on this API key"),
    ({"tokens": 5}, "Rate limit: 1 req/day on this API key"),
    ({"requests": 1}, "Rate limit: 1 req/day on this API key"),
    ({"places": 1}, "Rate limit: 1 req/day on this API key"),
]
"""A limit beside one request a day, and what is told when both are used up: the longest wait."""
START = 1_800_000_000.0  # the first second of a clock minute


class Clock:
    """Stands in for `time.time` in this process."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def principal(
    *,
    requests: int | None = None,
    daily_requests: int | None = None,
    places: int | None = None,
    tokens: int | None = None,
    daily_tokens: int | None = None,
    api_key_id: int = 7,
    family_id: int | None = None,
    workspace_id: int = 1,
) -> Principal:
    return Principal(
        api_key_id=api_key_id,
        family_id=family_id,
        workspace_id=workspace_id,
        account_id=1,
        workspace_public_id="ws_acme",
        scopes=frozenset({"chat"}),
        max_requests_per_minute=requests,
        max_requests_daily=daily_requests,
        max_concurrent_requests=places,
        max_tokens_per_minute=tokens,
        max_tokens_daily=daily_tokens,
    )


@asynccontextmanager
async def running(
    *, workers: int = 1, redis_url: str = "", timeout_s: float = 2.0, lease_s: float = 60.0
) -> AsyncIterator[Limiter]:
    """The deadline is long unless it is what a test is about: a loaded machine must not turn into a slow Redis."""
    limiter = Limiter(workers=workers, redis_url=redis_url, redis_timeout_s=timeout_s, redis_retry_s=0.1, place_lease_s=lease_s)
    await limiter.start()
    try:
        yield limiter
    finally:
        await limiter.stop()


async def ask(limiter: Limiter, key: Principal) -> dict[str, str]:
    """One short request; its headers."""
    async with limiter.slot(key) as slot:
        return dict(slot.headers)


async def is_let_in(limiter: Limiter, key: Principal) -> bool:
    try:
        await ask(limiter, key)
    except REFUSALS:
        return False
    return True


async def count_let_in(limiter: Limiter, key: Principal, requests: int) -> int:
    return sum([await is_let_in(limiter, key) for _ in range(requests)])


async def is_degraded(limiter: Limiter, key: Principal) -> bool:
    return (await ask(limiter, key)).get("x-ratelimit-degraded") == "true"


async def until(condition: Callable[[], Awaitable[object]], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def early_in_the_minute() -> None:
    """The clock of Redis cannot be set: a test that counts waits out the end of a minute."""
    left_s = 60 - time.time() % 60
    if left_s < 5:
        await asyncio.sleep(left_s + 0.05)
