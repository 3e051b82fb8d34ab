"""Requests per day, as one process counts them; `test_shared_requests_a_day.py` asks the same of Redis."""

from __future__ import annotations

import pytest

from billing.errors import RateLimitExceeded
from tests.unit.billing.limits.asking import (
    NOON,
    REFUSALS,
    WAITS_BESIDE_A_DAY,
    Clock,
    ask,
    count_let_in,
    is_let_in,
    principal,
    running,
)


async def test_a_day_ends_at_midnight_in_utc(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(daily_requests=30)
        first = await ask(limiter, key)
        clock.now += 3600
        assert await count_let_in(limiter, key, 28) == 28
        last = await ask(limiter, key)
        with pytest.raises(RateLimitExceeded) as refusal:
            await ask(limiter, key)
        clock.now = NOON + 12 * 3600 - 1
        assert not await is_let_in(limiter, key)
        clock.now += 1
        assert await count_let_in(limiter, key, 50) == 30
    assert first == {
        "x-ratelimit-limit-requests": "30",
        "x-ratelimit-remaining-requests": "29",
        "x-ratelimit-reset-requests": "12h0m1s",
    }
    assert last["x-ratelimit-remaining-requests"] == "0"
    error = refusal.value
    assert (error.status, error.code, error.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert error.message == "Rate limit: 30 req/day on this API key"
    assert dict(error.headers) == {
        "retry-after": str(11 * 3600 + 1),
        "x-ratelimit-limit-requests": "30",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "11h0m1s",
        "x-should-retry": "false",  # the SDKs do not wait that long, and would ask at once
    }


async def test_the_headers_tell_the_limit_of_which_less_remains(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(requests=10, daily_requests=15)
        headers = await ask(limiter, key)
        assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("10", "9")
        assert await count_let_in(limiter, key, 7) == 7
        clock.now += 120
        headers = await ask(limiter, key)
        assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("15", "6")


async def test_a_request_that_another_limit_refuses_is_not_counted_for_the_day(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(requests=2, places=1, tokens=10, daily_requests=6)
        async with limiter.slot(key):
            assert await count_let_in(limiter, key, 5) == 0
        assert await count_let_in(limiter, key, 5) == 1
        clock.now += 120
        limiter.spend(key, 10)
        assert await count_let_in(limiter, key, 5) == 0
        clock.now += 120
        assert (await ask(limiter, principal(daily_requests=6)))["x-ratelimit-remaining-requests"] == "3"


async def test_a_request_that_the_day_refuses_is_counted_nowhere(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(requests=10, places=1, daily_requests=2)
        assert await count_let_in(limiter, key, 8) == 2
        assert (await ask(limiter, principal(requests=10)))["x-ratelimit-remaining-requests"] == "7"
        async with limiter.slot(principal(places=1)):
            assert not await is_let_in(limiter, principal(places=1))


@pytest.mark.parametrize(("limits", "expected"), WAITS_BESIDE_A_DAY)
async def test_of_several_limits_the_longest_wait_is_told(clock: Clock, limits: dict[str, int], expected: str) -> None:
    key = principal(daily_requests=1, **limits)
    async with running() as limiter, limiter.slot(key):
        limiter.spend(key, 5)
        with pytest.raises(REFUSALS) as refusal:
            await ask(limiter, key)
    assert str(refusal.value) == expected


async def test_keys_rolled_of_one_another_are_counted_as_one_and_others_apart(clock: Clock) -> None:
    old, new = principal(daily_requests=3), principal(daily_requests=3, api_key_id=8, family_id=7)
    async with running() as limiter:
        assert await is_let_in(limiter, old)
        assert await count_let_in(limiter, new, 5) == 2
        assert not await is_let_in(limiter, old)
        assert await is_let_in(limiter, principal(daily_requests=3, api_key_id=9))


async def test_each_process_allows_its_share_rounded_up(clock: Clock) -> None:
    async with running(workers=4) as limiter:
        assert await count_let_in(limiter, principal(daily_requests=30), 30) == 8


async def test_a_read_counts_and_needs_no_tokens(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(daily_requests=2, daily_tokens=5)
        limiter.spend(key, 5)
        assert dict((await limiter.count(key)).headers)["x-ratelimit-remaining-requests"] == "1"
        async with limiter.slot_without_tokens(key) as slot:
            assert dict(slot.headers)["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(RateLimitExceeded):
            await limiter.count(key)


async def test_a_clock_that_goes_back_forgets_nothing(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(daily_requests=1)
        assert await is_let_in(limiter, key)
        clock.now -= 86_400
        assert not await is_let_in(limiter, key)
