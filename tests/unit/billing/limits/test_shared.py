from __future__ import annotations

import asyncio
import contextlib
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis

from billing.errors import ConcurrencyLimitExceeded, RateLimitExceeded
from billing.limits import Limiter
from billing.limits.window import Window
from tests.redis_server import RedisServer
from tests.unit.billing.limits.asking import (
    ask,
    count_let_in,
    early_in_the_minute,
    is_degraded,
    is_let_in,
    principal,
    running,
    until,
)


def test_a_missing_server_skips_here_and_fails_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="redis-server"):
        RedisServer()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="redis-server"):
        RedisServer()


async def test_processes_count_together(redis_server: RedisServer) -> None:
    await early_in_the_minute()
    key = principal(requests=10)
    async with running(workers=2, redis_url=redis_server.url) as one, running(workers=2, redis_url=redis_server.url) as other:
        headers = await ask(one, key)
        assert headers["x-ratelimit-limit-requests"] == "10"
        assert headers["x-ratelimit-remaining-requests"] == "9"
        assert "x-ratelimit-degraded" not in headers
        assert await count_let_in(other, key, 7) == 7
        assert await count_let_in(one, key, 7) == 2
        with pytest.raises(RateLimitExceeded) as refusal:
            await ask(other, key)
    headers = dict(refusal.value.headers)
    assert refusal.value.message == "Rate limit: 10 req/min on this API key"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    left_s = 60 - time.time() % 60
    assert left_s - 1 <= int(headers["retry-after"]) <= left_s + 3


async def test_what_is_no_request_of_a_key_is_counted_together_too(redis_server: RedisServer) -> None:
    await early_in_the_minute()
    async with running(workers=2, redis_url=redis_server.url) as one, running(workers=2, redis_url=redis_server.url) as other:
        assert [await limiter.wait_s("fetches:1:pictures.example", 3) for limiter in (one, other, one)] == [0, 0, 0]
        assert 0 < await other.wait_s("fetches:1:pictures.example", 3) <= 120
        assert await other.wait_s("fetches:1:others.example", 3) == 0


@pytest.mark.parametrize("age", [0, 1, 2])
async def test_requests_of_the_last_minute_fade(redis_server: RedisServer, age: int) -> None:
    await early_in_the_minute()
    key = principal(requests=1000)
    async with running(redis_url=redis_server.url) as limiter, Redis.from_url(redis_server.url) as redis:
        now = time.time()
        counted: dict[Any, Any] = {"minute": int(now // 60) - age, "current": 450, "previous": 400}
        await redis.hset("infery:limits:{7}:requests", mapping=counted)
        remaining = int((await ask(limiter, key))["x-ratelimit-remaining-requests"])
    previous, current = {0: (400, 450), 1: (450, 0), 2: (0, 0)}[age]
    expected = Window(1000, previous, current + 1, left_s=60 - now % 60).remaining
    assert abs(remaining - expected) <= 15  # what fades in a second, while the test runs


async def test_places_are_shared_and_given_back(redis_server: RedisServer) -> None:
    key = principal(places=2)
    async with running(redis_url=redis_server.url) as one, running(redis_url=redis_server.url) as other:
        async with one.slot(key), other.slot(key):
            with pytest.raises(ConcurrencyLimitExceeded):
                await ask(one, key)
            assert not await is_let_in(other, key)
        assert await is_let_in(one, key)
        assert await is_let_in(other, key)


async def test_nothing_is_counted_for_a_refusal(redis_server: RedisServer) -> None:
    await early_in_the_minute()
    key = principal(requests=3, places=1)
    async with running(redis_url=redis_server.url) as limiter:
        async with limiter.slot(key):
            assert await count_let_in(limiter, key, 5) == 0
        assert await count_let_in(limiter, key, 5) == 2
        async with limiter.slot(principal(places=1)), Redis.from_url(redis_server.url) as redis:
            with pytest.raises(RateLimitExceeded):
                await ask(limiter, key)
            assert await redis.zcard("infery:limits:{7}:places") == 1


async def test_a_crowd_gets_exactly_the_limit_of_both(redis_server: RedisServer) -> None:
    await early_in_the_minute()
    key = principal(requests=50)
    async with running(redis_url=redis_server.url) as one, running(redis_url=redis_server.url) as other:
        answers = await asyncio.gather(*(is_let_in(limiter, key) for limiter in [one, other] * 100))
    assert sum(answers) == 50


@pytest.mark.slow
async def test_place_of_a_long_request_is_renewed(redis_server: RedisServer) -> None:
    key = principal(places=1)
    async with running(redis_url=redis_server.url, lease_s=1.5) as limiter, limiter.slot(key):
        await asyncio.sleep(2.0)
        assert not await is_let_in(limiter, key)


@pytest.mark.slow
async def test_place_of_a_killed_process_comes_back(redis_server: RedisServer, pytestconfig: pytest.Config) -> None:
    key = principal(places=1)
    program = f"""
        import asyncio, django
        django.setup()
        from billing.apikeys import Principal
        from billing.limits import Limiter

        async def main():
            limiter = Limiter(workers=1, redis_url={redis_server.url!r}, redis_retry_s=0.1, place_lease_s=2.0)
            await limiter.start()
            async with limiter.slot(Principal(7, 1, 1, "ws_acme", frozenset(), max_concurrent_requests=1)):
                print("in", flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(program)), cwd=pytestconfig.rootpath, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        assert await child.stdout.readline() == b"in\n"
        async with running(redis_url=redis_server.url) as limiter:
            await asyncio.sleep(2.5)
            assert not await is_let_in(limiter, key)
            child.kill()
            await until(lambda: is_let_in(limiter, key))
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


@pytest.mark.slow
async def test_redis_that_was_never_there(tmp_path: Path) -> None:
    await early_in_the_minute()
    async with running(workers=2, redis_url=f"unix://{tmp_path}/none.sock") as limiter:
        key = principal(requests=10, places=4)
        headers = await ask(limiter, key)
        assert headers["x-ratelimit-degraded"] == "true"
        assert headers["x-ratelimit-remaining-requests"] == "4"
        assert await count_let_in(limiter, key, 10) == 4
        with pytest.raises(RateLimitExceeded) as refusal:
            await ask(limiter, key)
        assert dict(refusal.value.headers)["x-ratelimit-degraded"] == "true"


async def test_redis_that_goes_away_and_comes_back(redis_server: RedisServer) -> None:
    key = principal(requests=1000, places=2)
    async with running(redis_url=redis_server.url) as limiter:
        async with limiter.slot(key) as slot:
            assert "x-ratelimit-degraded" not in dict(slot.headers)
            redis_server.stop()
            assert await is_degraded(limiter, key)
            async with limiter.slot(key), limiter.slot(key):
                assert not await is_let_in(limiter, key)
        redis_server.start()

        async def is_back() -> bool:
            return not await is_degraded(limiter, key)

        await until(is_back)
        async with limiter.slot(key), limiter.slot(key):
            assert not await is_let_in(limiter, key)


async def test_slow_redis_delays_one_request_and_keeps_no_place(redis_server: RedisServer) -> None:
    key = principal(requests=1000, places=1)
    async with running(redis_url=redis_server.url, timeout_s=0.05) as limiter:
        assert not await is_degraded(limiter, key)
        redis_server.freeze()
        asked_at = time.monotonic()
        assert await is_degraded(limiter, key)
        first_s = time.monotonic() - asked_at
        assert await count_let_in(limiter, key, 100) == 100
        others_s = time.monotonic() - asked_at - first_s
        redis_server.thaw()
        assert 0.05 <= first_s < 0.5
        assert others_s < 0.5

        async def is_back() -> bool:
            with contextlib.suppress(ConcurrencyLimitExceeded):
                return not await is_degraded(limiter, key)
            return False

        await until(is_back)


async def test_slow_redis_does_not_lose_the_place_of_a_request_that_ends(redis_server: RedisServer) -> None:
    key = principal(places=1)
    async with running(redis_url=redis_server.url, timeout_s=0.05) as one, running(redis_url=redis_server.url) as other:
        async with one.slot(key):
            redis_server.freeze()
        redis_server.thaw()
        await until(lambda: is_let_in(other, key))
        await until(lambda: is_let_in(one, key))


async def test_cancelled_request_leaves_no_place(redis_server: RedisServer) -> None:
    key = principal(places=1)
    async with running(redis_url=redis_server.url) as limiter:
        assert await is_let_in(limiter, key)
        redis_server.freeze()
        task = asyncio.create_task(ask(limiter, key))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        redis_server.thaw()
        await until(lambda: is_let_in(limiter, key))


@pytest.mark.parametrize("new_event_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_busy_loop_is_not_taken_for_a_slow_redis(
    redis_server: RedisServer, new_event_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    key = principal(requests=1000)

    async def ask_and_block() -> bool:
        async with running(redis_url=redis_server.url, timeout_s=0.05) as limiter:
            task = asyncio.create_task(is_degraded(limiter, key))
            for _ in range(20):
                await asyncio.sleep(0)  # the question is on its way
            time.sleep(0.2)  # noqa: ASYNC251 - the step that blocks the loop is what is tested
            return await task

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert not runner.run(ask_and_block())


async def test_redis_without_the_scripts_gets_them_again(redis_server: RedisServer) -> None:
    key = principal(requests=1000)
    async with running(redis_url=redis_server.url) as limiter, Redis.from_url(redis_server.url) as redis:
        await redis.script_flush()
        assert await is_degraded(limiter, key)

        async def is_back() -> bool:
            return not await is_degraded(limiter, key)

        await until(is_back)


async def test_redis_that_refuses_to_write_is_away(redis_server: RedisServer) -> None:
    key = principal(requests=1000)
    async with running(redis_url=redis_server.url) as limiter, Redis.from_url(redis_server.url) as redis:
        await redis.config_set("maxmemory", "1")
        for _ in range(5):
            assert await is_degraded(limiter, key)
            await asyncio.sleep(0.1)  # it stays away, although it answers


async def test_what_is_counted_expires(redis_server: RedisServer) -> None:
    key = principal(requests=1000, places=10)
    places_key, requests_key = "infery:limits:{7}:places", "infery:limits:{7}:requests"
    async with running(redis_url=redis_server.url) as limiter, Redis.from_url(redis_server.url) as redis:
        async with limiter.slot(key):
            assert 0 < await redis.pttl(places_key) <= 60_000
            assert 60_000 < await redis.pttl(requests_key) <= 120_000
            assert await redis.pttl("infery:limits:{probe}:requests") > 0
            assert await redis.dbsize() == 3

        async def is_empty() -> bool:
            return not await redis.exists(places_key)

        await until(is_empty)


async def test_stop_leaves_nothing_running(redis_server: RedisServer) -> None:
    limiter = Limiter(workers=1, redis_url=redis_server.url)
    await limiter.start()
    slot = limiter.slot(principal(requests=5, places=1))
    await slot.__aenter__()
    await limiter.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await slot.__aexit__(None, None, None)
    assert await is_degraded(limiter, principal(requests=5))
    await limiter.stop()
