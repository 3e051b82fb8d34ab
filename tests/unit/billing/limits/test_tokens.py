"""Tokens per minute and per day, as one process counts them; `test_shared_tokens.py` asks the same of Redis."""

from __future__ import annotations

import pytest

from billing.errors import TokensLimitExceeded
from tests.unit.billing.limits.asking import NOON, REFUSALS, Clock, ask, count_let_in, is_let_in, principal, running

FAMILY = ((7, None), (8, 7), (9, None))


async def test_keys_rolled_of_one_another_are_counted_as_one(clock: Clock) -> None:
    old, new, other = (principal(daily_tokens=1000, requests=3, api_key_id=key, family_id=of) for key, of in FAMILY)
    async with running() as limiter:
        limiter.spend(old, 400)
        assert (await ask(limiter, new))["x-ratelimit-remaining-tokens"] == "600"
        assert await count_let_in(limiter, old, 5) == 2
        limiter.spend(new, 600)
        assert not await is_let_in(limiter, old)
        assert await is_let_in(limiter, other)


async def test_a_request_is_refused_once_the_ones_before_it_used_the_minute_up(clock: Clock) -> None:
    clock.now = NOON + 15
    async with running() as limiter:
        key = principal(tokens=1000)
        first = await ask(limiter, key)
        limiter.spend(key, 400)
        second = await ask(limiter, key)
        limiter.spend(key, 1600)
        with pytest.raises(TokensLimitExceeded) as refusal:
            await ask(limiter, key)
    assert first == {
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "1000",
        "x-ratelimit-reset-tokens": "0s",
    }
    assert second["x-ratelimit-remaining-tokens"] == "600"
    error = refusal.value
    assert (error.status, error.code, error.type) == (429, "tokens_limit_exceeded", "rate_limit_error")
    assert error.message == "Token limit: 1000 tokens/min on this API key"
    assert dict(error.headers) == {
        "retry-after": "76",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m45s",
        "x-should-retry": "false",  # the SDKs do not wait that long, and would ask at once
    }


@pytest.mark.parametrize("tokens", [1000, 1001, 5000, 1_000_000])
async def test_retry_after_is_kept(clock: Clock, tokens: int) -> None:
    async with running() as limiter:
        key = principal(tokens=1000)
        limiter.spend(key, tokens)
        with pytest.raises(TokensLimitExceeded) as refusal:
            await ask(limiter, key)
        retry_after_s = int(dict(refusal.value.headers)["retry-after"])
        clock.now += retry_after_s - 2
        assert not await is_let_in(limiter, key)
        clock.now += 2
        assert await is_let_in(limiter, key)


async def test_a_day_ends_at_midnight_in_utc(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(daily_tokens=1000)
        limiter.spend(key, 600)
        clock.now += 3600
        assert await ask(limiter, key) == {
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": "400",
            "x-ratelimit-reset-tokens": "11h0m1s",
        }
        limiter.spend(key, 400)
        with pytest.raises(TokensLimitExceeded) as refusal:
            await ask(limiter, key)
        assert refusal.value.message == "Token limit: 1000 tokens/day on this API key"
        assert dict(refusal.value.headers)["retry-after"] == str(11 * 3600 + 1)
        clock.now = NOON + 12 * 3600
        assert (await ask(limiter, key))["x-ratelimit-remaining-tokens"] == "1000"


async def test_the_headers_tell_the_limit_of_which_less_remains(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(tokens=1000, daily_tokens=1500)
        assert (await ask(limiter, key))["x-ratelimit-limit-tokens"] == "1000"
        limiter.spend(key, 900)
        clock.now += 120
        headers = await ask(limiter, key)
        assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"]) == ("1500", "600")


async def test_refused_requests_count_for_nothing_and_take_no_place(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(requests=3, places=1, tokens=10)
        limiter.spend(key, 10)
        assert await count_let_in(limiter, key, 5) == 0
        clock.now += 120
        assert await count_let_in(limiter, key, 5) == 3


@pytest.mark.parametrize(
    ("daily", "tokens", "requests", "expected"),
    [
        (True, True, True, "Token limit: 5 tokens/day on this API key"),
        (False, True, True, "Token limit: 5 tokens/min on this API key"),
        (False, False, True, "Rate limit: 1 req/min on this API key"),
        (False, False, False, "Concurrency limit: 1 requests at once on this API key"),
    ],
)
async def test_of_several_limits_the_longest_wait_is_told(
    clock: Clock, *, daily: bool, tokens: bool, requests: bool, expected: str
) -> None:
    async with running() as limiter:
        plain = principal(places=1, requests=1 if requests else None)
        async with limiter.slot(plain):
            limiter.spend(principal(tokens=5), 5 if tokens or daily else 0)
            key = principal(
                requests=1 if requests else None, places=1, tokens=5 if tokens else None, daily_tokens=5 if daily else None
            )
            with pytest.raises(REFUSALS) as refusal:
                await ask(limiter, key)
    assert str(refusal.value) == expected


async def test_keys_are_counted_apart_and_keys_without_limits_not_at_all(clock: Clock) -> None:
    async with running() as limiter:
        one, other = principal(tokens=10, api_key_id=1), principal(tokens=10, api_key_id=2)
        limiter.spend(one, 10)
        limiter.spend(principal(api_key_id=2), 10)
        limiter.spend(other, 0)
        assert not await is_let_in(limiter, one)
        assert await is_let_in(limiter, other)


async def test_each_process_allows_its_share_rounded_up(clock: Clock) -> None:
    async with running(workers=4) as limiter:
        key = principal(tokens=1001)
        limiter.spend(key, 250)
        assert (await ask(limiter, key))["x-ratelimit-remaining-tokens"] == "1"
        limiter.spend(key, 1)
        assert not await is_let_in(limiter, key)


async def test_a_clock_that_goes_back_forgets_nothing(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(tokens=10, daily_tokens=10)
        limiter.spend(key, 10)
        clock.now -= 86_400
        assert not await is_let_in(limiter, key)
