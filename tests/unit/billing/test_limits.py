from __future__ import annotations

import asyncio
import contextlib
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis

from billing.apikeys import Principal
from billing.errors import ConcurrencyLimitExceeded, RateLimitExceeded
from billing.limits import Limiter
from billing.limits.window import WINDOW_S, Window, duration
from tests.redis_server import RedisServer

START = 1_800_000_000.0  # the first second of a clock minute


class Clock:
    """Stands in for `time.time` in this process."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def principal(
    *, requests: int | None = None, places: int | None = None, api_key_id: int = 7, workspace_id: int = 1
) -> Principal:
    return Principal(
        api_key_id=api_key_id,
        workspace_id=workspace_id,
        account_id=1,
        workspace_public_id="ws_acme",
        scopes=frozenset({"chat"}),
        max_requests_per_minute=requests,
        max_concurrent_requests=places,
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
    except (RateLimitExceeded, ConcurrencyLimitExceeded):
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


# The arithmetic


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (1, "1s"), (59, "59s"), (60, "1m0s"), (119, "1m59s"), (360, "6m0s")])
def test_duration_is_written_in_minutes_and_seconds(seconds: int, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("window", "remaining", "retry_after_s", "reset_s"),
    [
        (Window(limit=10, previous=0, current=0, left_s=30.0), 10, 1, 0),
        (Window(limit=10, previous=0, current=1, left_s=30.0), 9, 1, 31),
        # Ten fade over the next minute: the first of them leaves at once, the last six seconds before its end.
        (Window(limit=10, previous=0, current=10, left_s=30.0), 0, 31, 85),
        # Ten of the last minute weigh 5 now; with 5 of this one the limit is met.
        (Window(limit=10, previous=10, current=5, left_s=30.0), 0, 1, 79),
        (Window(limit=10, previous=10, current=0, left_s=60.0), 0, 1, 55),
        # The limit was lowered from 100 to 10.
        (Window(limit=10, previous=0, current=100, left_s=30.0), 0, 85, 90),
    ],
)
def test_window_tells_when_to_come_back(window: Window, remaining: int, retry_after_s: int, reset_s: int) -> None:
    assert (window.remaining, window.retry_after_s(), window.reset_s()) == (remaining, retry_after_s, reset_s)


steps = st.lists(st.tuples(st.integers(0, 45_000), st.integers(1, 6)), min_size=1, max_size=12)


@given(limit=st.integers(1, 8), steps=steps)
async def test_what_a_window_says_is_what_the_library_does(limit: int, steps: list[tuple[int, int]]) -> None:
    """After any traffic: `remaining` requests pass and no more; after `retry_after_s` one passes; after `reset_s` all do."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(time, "time", clock)
        storage = MemoryStorage()
        strategy = SlidingWindowCounterRateLimiter(storage)
        item = RateLimitItemPerMinute(limit)

        async def window() -> Window:
            previous, _, current, faded_in_s = await storage.get_sliding_window(item.key_for("key"), WINDOW_S)
            return Window(limit, previous, current, faded_in_s - WINDOW_S)

        async def passed(requests: int) -> int:
            return sum([await strategy.hit(item, "key") for _ in range(requests)])

        for pause_ms, requests in steps:
            clock.now += pause_ms / 1000
            await passed(requests)
        remaining = (await window()).remaining
        assert await passed(limit + 1) == remaining

        clock.now += (await window()).retry_after_s()
        assert await passed(1) == 1
        clock.now += (await window()).reset_s()
        assert (await window()).remaining == limit
        assert await passed(limit + 1) == limit
        if storage.timer is not None:
            await storage.timer


# One process


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


# Redis


def test_a_missing_server_skips_here_and_fails_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="redis-server"):
        RedisServer()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="redis-server"):
        RedisServer()


async def early_in_the_minute() -> None:
    """The server's clock cannot be set: a test that counts waits out the end of a minute."""
    left_s = 60 - time.time() % 60
    if left_s < 5:
        await asyncio.sleep(left_s + 0.05)


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


async def test_place_of_a_long_request_is_renewed(redis_server: RedisServer) -> None:
    key = principal(places=1)
    async with running(redis_url=redis_server.url, lease_s=1.5) as limiter, limiter.slot(key):
        await asyncio.sleep(2.0)
        assert not await is_let_in(limiter, key)


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


async def test_redis_that_was_never_there_is_only_slow_once(tmp_path: Path, clock: Clock) -> None:
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
