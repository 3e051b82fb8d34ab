"""Tokens per minute and per day, counted for all processes in Redis."""

from __future__ import annotations

import time
from typing import Any

import pytest
from redis.asyncio import Redis

from billing.errors import TokensLimitExceeded
from billing.limits.window import DAY_S, Window
from tests.redis_server import RedisServer
from tests.unit.billing.limits.asking import ask, count_let_in, is_degraded, is_let_in, principal, running, until

HASH = "infery:limits:{7}:tokens"


def counts(**ages: Any) -> dict[Any, Any]:
    """A hash as it stands after tokens were spent: `minutes` and `days` ago."""
    now = time.time()
    return {
        "minute": int(now // 60) - ages.get("minutes", 0),
        "day": int(now // DAY_S) - ages.get("days", 0),
        "current": 450,
        "previous": 400,
        "today": 900,
    }


async def test_keys_rolled_of_one_another_are_counted_as_one(redis_server: RedisServer) -> None:
    old, new = principal(daily_tokens=1000), principal(daily_tokens=1000, api_key_id=8, family_id=7)
    async with running(redis_url=redis_server.url) as limiter:
        limiter.spend(old, 300)
        assert (await ask(limiter, new))["x-ratelimit-remaining-tokens"] == "700"
        limiter.spend(new, 700)
        assert not await is_let_in(limiter, old)


async def test_processes_count_together(redis_server: RedisServer) -> None:
    key = principal(tokens=1_000_000, daily_tokens=1000)
    async with running(redis_url=redis_server.url) as one, running(redis_url=redis_server.url) as other:
        assert (await ask(one, key))["x-ratelimit-remaining-tokens"] == "1000"
        one.spend(key, 300)
        # What was spent goes ahead of the next question of the same process.
        assert (await ask(one, key))["x-ratelimit-remaining-tokens"] == "700"
        assert (await ask(other, key))["x-ratelimit-remaining-tokens"] == "700"
        other.spend(key, 400)
        other.spend(key, 300)
        with pytest.raises(TokensLimitExceeded) as refusal:
            await ask(other, key)
        assert await count_let_in(one, key, 5) == 0
    headers = dict(refusal.value.headers)
    assert refusal.value.message == "Token limit: 1000 tokens/day on this API key"
    assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"]) == ("1000", "0")
    assert abs(int(headers["retry-after"]) - (DAY_S - time.time() % DAY_S)) <= 3


@pytest.mark.parametrize("age", [0, 1, 2])
async def test_tokens_of_the_last_minute_fade(redis_server: RedisServer, age: int) -> None:
    key = principal(tokens=1000)
    async with running(redis_url=redis_server.url) as limiter, Redis.from_url(redis_server.url) as redis:
        now = time.time()
        await redis.hset(HASH, mapping=counts(minutes=age))
        limiter.spend(key, 50)
        remaining = int((await ask(limiter, key))["x-ratelimit-remaining-tokens"])
    previous, current = {0: (400, 500), 1: (450, 50), 2: (0, 50)}[age]
    expected = Window(1000, previous, current, left_s=60 - now % 60).remaining
    assert abs(remaining - expected) <= 20  # what fades in two seconds, while the test runs


@pytest.mark.parametrize(("age", "remaining"), [(0, 50), (1, 950)])
async def test_tokens_of_another_day_do_not_count(redis_server: RedisServer, age: int, remaining: int) -> None:
    key = principal(daily_tokens=1000)
    async with running(redis_url=redis_server.url) as limiter, Redis.from_url(redis_server.url) as redis:
        await redis.hset(HASH, mapping=counts(days=age, minutes=age * 1440))
        limiter.spend(key, 50)
        assert (await ask(limiter, key))["x-ratelimit-remaining-tokens"] == str(remaining)


async def test_a_minute_that_is_used_up_is_told_like_in_a_process(redis_server: RedisServer) -> None:
    key = principal(requests=5, places=1, tokens=1000)
    async with running(redis_url=redis_server.url) as limiter, Redis.from_url(redis_server.url) as redis:
        limiter.spend(key, 5000)
        with pytest.raises(TokensLimitExceeded) as refusal:
            await ask(limiter, key)
        assert refusal.value.message == "Token limit: 1000 tokens/min on this API key"
        assert 0 < int(dict(refusal.value.headers)["retry-after"]) <= 120
        # Nothing was counted for the refusal, and no place taken.
        assert await redis.hget("infery:limits:{7}:requests", "current") is None
        assert await redis.zcard("infery:limits:{7}:places") == 0


async def test_counts_beyond_four_bytes_stay_whole(redis_server: RedisServer) -> None:
    key = principal(daily_tokens=10**13)
    async with running(redis_url=redis_server.url) as limiter:
        limiter.spend(key, 10**12 + 7)
        await ask(limiter, key)
        limiter.spend(key, 1)
        assert (await ask(limiter, key))["x-ratelimit-remaining-tokens"] == str(9 * 10**12 - 8)


async def test_what_is_counted_expires_after_the_day(redis_server: RedisServer) -> None:
    key = principal(tokens=10)
    async with running(redis_url=redis_server.url) as limiter, Redis.from_url(redis_server.url) as redis:
        limiter.spend(key, 1)
        await ask(limiter, key)
        left_s = await redis.pttl(HASH) / 1000
        assert 115 <= left_s <= DAY_S
        assert abs(left_s - max(120, DAY_S - time.time() % DAY_S)) <= 5


async def test_without_redis_the_process_counts(redis_server: RedisServer) -> None:
    key = principal(tokens=10)
    async with running(redis_url=redis_server.url) as limiter:
        redis_server.stop()
        await until(lambda: is_degraded(limiter, principal(requests=1000)))
        limiter.spend(key, 10)
        assert not await is_let_in(limiter, key)


async def test_stop_sends_what_is_still_to_be_counted(redis_server: RedisServer) -> None:
    key = principal(daily_tokens=1000)
    async with running(redis_url=redis_server.url) as limiter:
        await ask(limiter, key)
        limiter.spend(key, 600)
    async with running(redis_url=redis_server.url) as other:
        assert (await ask(other, key))["x-ratelimit-remaining-tokens"] == "400"
