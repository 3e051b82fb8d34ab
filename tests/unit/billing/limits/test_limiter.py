from __future__ import annotations

import asyncio
import time

import pytest

from billing.errors import ConcurrencyLimitExceeded, RateLimitExceeded
from billing.limits import Limiter
from tests.unit.billing.limits.asking import START, Clock, ask, count_let_in, is_let_in, principal, running


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


async def test_key_without_limits_costs_nothing() -> None:
    async with running(workers=2) as limiter:
        tasks = asyncio.all_tasks()
        context = limiter.slot(principal())
        with pytest.raises(StopIteration) as entered:
            context.__aenter__().send(None)
        with pytest.raises(StopIteration) as left:
            context.__aexit__(None, None, None).send(None)
        assert entered.value.value.headers == ()
        assert not left.value.value
        assert asyncio.all_tasks() == tasks
        assert limiter.slot(principal(api_key_id=8)) is context


async def test_key_without_limits_does_not_hide_errors() -> None:
    async with running() as limiter:
        with pytest.raises(KeyError):
            async with limiter.slot(principal()):
                raise KeyError


async def test_requests_per_minute(clock: Clock) -> None:
    clock.now = START + 15
    async with running() as limiter:
        key = principal(requests=30)
        first = await ask(limiter, key)
        assert await count_let_in(limiter, key, 28) == 28
        last = await ask(limiter, key)
        with pytest.raises(RateLimitExceeded) as refusal:
            await ask(limiter, key)
    assert first == {
        "x-ratelimit-limit-requests": "30",
        "x-ratelimit-remaining-requests": "29",
        "x-ratelimit-reset-requests": "46s",
    }
    assert last["x-ratelimit-remaining-requests"] == "0"
    error = refusal.value
    assert (error.status, error.code, error.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert error.message == "Rate limit: 30 req/min on this API key"
    assert dict(error.headers) == {
        "retry-after": "46",
        "x-ratelimit-limit-requests": "30",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m44s",
    }


async def test_retry_after_is_kept_and_refusals_do_not_count(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(requests=5)
        assert await count_let_in(limiter, key, 50) == 5
        with pytest.raises(RateLimitExceeded) as refusal:
            await ask(limiter, key)
        clock.now += int(dict(refusal.value.headers)["retry-after"])
        assert await is_let_in(limiter, key)


async def test_each_process_allows_its_share_rounded_up(clock: Clock) -> None:
    async with running(workers=4) as limiter:
        assert await count_let_in(limiter, principal(requests=30), 30) == 8
        key = principal(places=5)
        async with limiter.slot(key), limiter.slot(key):
            assert not await is_let_in(limiter, key)


async def test_keys_are_counted_apart(clock: Clock) -> None:
    async with running() as limiter:
        assert await count_let_in(limiter, principal(requests=2, api_key_id=1), 3) == 2
        assert await count_let_in(limiter, principal(requests=2, api_key_id=2), 3) == 2


async def test_concurrent_requests() -> None:
    async with running() as limiter:
        key = principal(places=2)
        async with limiter.slot(key) as slot:
            assert slot.headers == ()
            async with limiter.slot(key):
                with pytest.raises(ConcurrencyLimitExceeded) as refusal:
                    await ask(limiter, key)
            assert await is_let_in(limiter, key)
        error = refusal.value
        assert (error.status, error.code, error.type) == (429, "concurrency_limit_exceeded", "rate_limit_error")
        assert error.message == "Concurrency limit: 2 requests at once on this API key"
        assert error.headers == (("retry-after", "1"),)


async def test_place_is_given_back_after_an_error_and_a_cancellation() -> None:
    async with running() as limiter:
        key = principal(places=1)
        with pytest.raises(KeyError):
            async with limiter.slot(key):
                raise KeyError
        entered = asyncio.Event()

        async def stay() -> None:
            async with limiter.slot(key):
                entered.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(stay())
        await entered.wait()
        assert not await is_let_in(limiter, key)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await is_let_in(limiter, key)


async def test_request_without_a_place_is_not_counted(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(requests=10, places=1)
        async with limiter.slot(key):
            with pytest.raises(ConcurrencyLimitExceeded) as refusal:
                await ask(limiter, key)
            assert dict(refusal.value.headers)["x-ratelimit-remaining-requests"] == "9"
        assert await count_let_in(limiter, key, 10) == 9
        async with limiter.slot(principal(places=1)):
            with pytest.raises(RateLimitExceeded):  # the longer wait of the two is the one to tell
                await ask(limiter, key)


async def test_a_crowd_gets_exactly_the_limit(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(requests=50, places=20)
        opened = asyncio.Event()

        async def stay() -> str:
            try:
                async with limiter.slot(key):
                    await opened.wait()
            except ConcurrencyLimitExceeded:
                return "full"
            return "in"

        tasks = [asyncio.create_task(stay()) for _ in range(200)]
        await asyncio.sleep(0)
        opened.set()
        answers = await asyncio.gather(*tasks)
        assert (answers.count("in"), answers.count("full")) == (20, 180)
        assert await count_let_in(limiter, key, 50) == 30


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="workers"):
        Limiter(workers=0, redis_url="")
    with pytest.raises(ValueError, match="Redis URL"):
        Limiter(workers=1, redis_url="http://localhost")


async def test_a_read_counts_as_a_request_and_needs_neither_place_nor_tokens(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(requests=3, places=1, tokens=5)
        async with limiter.slot(key):
            limiter.spend(key, 5)
            assert dict((await limiter.count(key)).headers)["x-ratelimit-remaining-requests"] == "1"
            assert dict((await limiter.count(key)).headers)["x-ratelimit-remaining-requests"] == "0"
            with pytest.raises(RateLimitExceeded):
                await limiter.count(key)
        assert (await limiter.count(principal())).headers == ()


async def test_an_upload_takes_a_place_and_needs_no_tokens(clock: Clock) -> None:
    async with running() as limiter:
        key = principal(requests=9, places=1, tokens=5)
        limiter.spend(key, 5)
        async with limiter.slot_without_tokens(key) as slot:
            assert {name for name, _ in slot.headers} == {
                f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")
            }
            with pytest.raises(ConcurrencyLimitExceeded):
                async with limiter.slot_without_tokens(key):
                    pass


async def test_the_limiter_that_was_started_is_the_one_that_serves() -> None:
    assert Limiter.serving is None
    async with running() as limiter:
        assert Limiter.serving is limiter
    assert Limiter.serving is None
