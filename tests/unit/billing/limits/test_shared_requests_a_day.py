"""Requests per day, counted for all processes in Redis."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from billing.errors import RateLimitExceeded
from billing.limits.window import DAY_S
from tests.redis_server import RedisServer
from tests.unit.billing.limits.asking import (
    REFUSALS,
    WAITS_BESIDE_A_DAY,
    ask,
    count_let_in,
    early_in_the_minute,
    is_degraded,
    is_let_in,
    principal,
    running,
    until,
)

HASH = "infery:limits:{7}:day"


@pytest.fixture(autouse=True)
async def _early_in_the_day() -> None:
    """A day ends with a minute."""
    await early_in_the_minute()


async def test_processes_count_together(redis_server: RedisServer) -> None:
    key = principal(requests=1000, daily_requests=10)
    async with running(workers=2, redis_url=redis_server.url) as one, running(workers=2, redis_url=redis_server.url) as other:
        headers = await ask(one, key)
        assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("10", "9")
        assert await count_let_in(other, key, 7) == 7
        assert await count_let_in(one, key, 7) == 2
        with pytest.raises(RateLimitExceeded) as refusal:
            await ask(other, key)
    headers = dict(refusal.value.headers)
    assert refusal.value.message == "Rate limit: 10 req/day on this API key"
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("10", "0")
    assert abs(int(headers["retry-after"]) - (DAY_S - time.time() % DAY_S)) <= 3


async def test_a_crowd_gets_exactly_the_limit_of_both(redis_server: RedisServer) -> None:
    key = principal(daily_requests=50)
    async with running(redis_url=redis_server.url) as one, running(redis_url=redis_server.url) as other:
        answers = await asyncio.gather(*(is_let_in(limiter, key) for limiter in [one, other] * 100))
    assert sum(answers) == 50


async def test_the_headers_tell_the_limit_of_which_less_remains(redis_server: RedisServer) -> None:
    async with running(redis_url=redis_server.url) as limiter:
        assert (await ask(limiter, principal(requests=5, daily_requests=9)))["x-ratelimit-limit-requests"] == "5"
        assert (await ask(limiter, principal(requests=9, daily_requests=5)))["x-ratelimit-limit-requests"] == "5"


@pytest.mark.parametrize(("age", "remaining"), [(0, 99), (1, 999)])
async def test_requests_of_another_day_do_not_count(redis_server: RedisServer, age: int, remaining: int) -> None:
    async with running(redis_url=redis_server.url) as limiter, Redis.from_url(redis_server.url) as redis:
        counted: dict[Any, Any] = {"day": int(time.time() // DAY_S) - age, "today": 900}
        await redis.hset(HASH, mapping=counted)
        headers = await ask(limiter, principal(daily_requests=1000))
    assert headers["x-ratelimit-remaining-requests"] == str(remaining)


async def test_nothing_is_counted_for_a_refusal(redis_server: RedisServer) -> None:
    async with running(redis_url=redis_server.url) as limiter, Redis.from_url(redis_server.url) as redis:
        key = principal(requests=3, places=1, tokens=10, daily_requests=4)
        async with limiter.slot(key):
            assert await count_let_in(limiter, key, 5) == 0
        assert await count_let_in(limiter, key, 5) == 2
        limiter.spend(key, 1000)
        assert await count_let_in(limiter, key, 5) == 0
        assert await redis.hget(HASH, "today") == b"3"
        assert await count_let_in(limiter, principal(daily_requests=4, requests=100), 5) == 1
        assert await redis.hget("infery:limits:{7}:requests", "current") == b"4"
        await until_empty(redis, "infery:limits:{7}:places")
        assert not await is_let_in(limiter, principal(places=1, daily_requests=4))
        assert not await redis.exists("infery:limits:{7}:places")


async def until_empty(redis: Redis, name: str) -> None:
    async def is_empty() -> bool:
        return not await redis.exists(name)

    await until(is_empty)


@pytest.mark.parametrize(("limits", "expected"), WAITS_BESIDE_A_DAY)
async def test_of_several_limits_the_longest_wait_is_told(
    redis_server: RedisServer, limits: dict[str, int], expected: str
) -> None:
    key = principal(daily_requests=1, **limits)
    async with running(redis_url=redis_server.url) as limiter, limiter.slot(key):
        limiter.spend(key, 5000)
        with pytest.raises(REFUSALS) as refusal:
            await ask(limiter, key)
    assert str(refusal.value) == expected


async def test_what_is_counted_expires_after_the_day(redis_server: RedisServer) -> None:
    async with running(redis_url=redis_server.url) as limiter, Redis.from_url(redis_server.url) as redis:
        await ask(limiter, principal(requests=10))
        assert not await redis.exists(HASH), "a key without this limit leaves nothing for the day"
        await ask(limiter, principal(requests=10, daily_requests=10))
        assert abs(await redis.pttl(HASH) / 1000 - (DAY_S - time.time() % DAY_S)) <= 5
        assert 0 < await redis.pttl("infery:limits:{7}:requests") <= 120_000


async def test_without_redis_the_process_counts_and_says_so(redis_server: RedisServer) -> None:
    key = principal(daily_requests=6)
    async with running(workers=2, redis_url=redis_server.url) as limiter:
        assert not await is_degraded(limiter, key)
        redis_server.stop()
        await until(lambda: is_degraded(limiter, principal(requests=1000)))
        headers = await ask(limiter, key)
        assert (headers["x-ratelimit-degraded"], headers["x-ratelimit-remaining-requests"]) == ("true", "2")
        assert await count_let_in(limiter, key, 5) == 2
