"""The counters of all processes, in Redis (or Valkey).

Owns the connection, and one task that speaks to Redis: the requests that ask while it waits for an answer go together in
its next exchange, so that a crowd costs a round trip and not a connection each. What a request asks, all limits at once, is
one script; the tokens that requests have used go ahead of it.

A place of the concurrency limit is leased: each process renews what it holds, and the places of a process that was killed
come back when their lease ends. A place whose fate is unknown is owed, like one to give back, and goes with the next
exchange. Tokens in an exchange that failed are not counted again.

A request waits no longer than the deadline of an exchange, and not at all while Redis is known to be away.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from billing.limits.scripts import RENEW, SPEND, TAKE
from billing.limits.window import Counted, Day, Refusal, Verdict, Window
from infery_site.ids import random_base62

CONNECT_TIMEOUT_S = 1.0
LATE_LOOP_GRACE_S = 0.002
MAX_ASKS_PER_EXCHANGE = 100
FAILURES = (RedisError, OSError, TimeoutError)

logger = logging.getLogger(__name__)

T = TypeVar("T")


class _Ask(NamedTuple):
    """A request before Redis; `answer` becomes what the script gives, or None if Redis is away."""

    keys: tuple[str, str, str, str]
    limits: tuple[int, int, int, int, int]
    place: str
    answer: asyncio.Future[list[int] | None]

    @property
    def places_key(self) -> str:
        return self.keys[1]


class SharedCounters:
    def __init__(self, url: str, *, timeout_s: float, retry_s: float, lease_s: float) -> None:
        self._redis = Redis.from_url(
            url,
            socket_timeout=CONNECT_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._lease_s = lease_s
        self._lease_ms = int(lease_s * 1000)
        self._is_away = True
        self._take_digest = ""
        self._renew_digest = ""
        self._spend_digest = ""
        self._renew_at = 0.0
        self._speaker: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._process = random_base62(12)
        self._numbers = itertools.count()
        self._asks: list[_Ask] = []
        self._sent: list[_Ask] = []
        self._abandoned: set[asyncio.Future[Any]] = set()
        # The sorted set of each place that a running request holds, and of each that Redis has yet to hear is free.
        self._held: dict[str, str] = {}
        self._owed: dict[str, str] = {}
        # Tokens that Redis has yet to hear of, by their hash.
        self._spent: dict[str, int] = {}

    async def start(self) -> None:
        try:
            await self._reach()
        except FAILURES as error:
            logger.warning("Redis is away, each process counts for itself: %s", error)
        self._speaker = asyncio.create_task(self._speak())

    async def stop(self) -> None:
        if self._speaker is not None:
            self._speaker.cancel()
            await asyncio.wait({self._speaker})
        if self._owed or self._spent:
            with suppress(*FAILURES):
                await self._in_time(self._exchange([]), self._timeout_s)
        if self._abandoned:
            await asyncio.wait(self._abandoned)
        await self._redis.aclose()

    async def take(self, counted: Counted) -> Verdict | None:
        """None while Redis is away."""
        if self._is_away:
            return None
        keys = _keys_of(counted)
        limits = (
            counted.max_requests_per_minute or 0,
            counted.max_concurrent_requests or 0,
            counted.max_tokens_per_minute or 0,
            counted.max_tokens_daily or 0,
            counted.max_requests_daily or 0,
        )
        place = f"{self._process}-{next(self._numbers)}" if counted.max_concurrent_requests else ""
        answer = asyncio.get_running_loop().create_future()
        self._asks.append(_Ask(keys, limits, place, answer))
        self._wake.set()
        try:
            counts = await answer
        except asyncio.CancelledError:
            if place in self._held:
                self.give_back(place)
            raise
        if counts is None:
            return None
        return _verdict(limits, counts, place)

    def spend(self, counted: Counted, tokens: int) -> bool:
        """Counts tokens with the next exchange. False while Redis is away."""
        if self._is_away:
            return False
        tokens_key = _keys_of(counted)[2]
        self._spent[tokens_key] = self._spent.get(tokens_key, 0) + tokens
        self._wake.set()
        return True

    def give_back(self, place: str) -> None:
        self._owed[place] = self._held.pop(place)
        if not self._is_away:
            self._wake.set()

    async def _speak(self) -> None:
        """The one task that talks to Redis, for as long as the process runs."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._retry_s):
                        await self._wake.wait()
                self._wake.clear()
                await self._serve()
        finally:
            # Whatever ended the task: nobody may wait for it in vain.
            self._is_away = True
            self._give_up()

    async def _serve(self) -> None:
        """One exchange with what has gathered. Finds Redis first if it was away."""
        self._sent, self._asks = self._asks[:MAX_ASKS_PER_EXCHANGE], self._asks[MAX_ASKS_PER_EXCHANGE:]
        if self._asks:
            self._wake.set()
        try:
            if self._is_away:
                await self._reach()
                logger.info("Redis is back, all processes count together")
            asks = [ask for ask in self._sent if not ask.answer.done()]
            await self._in_time(self._exchange(asks), self._timeout_s)
        except FAILURES as error:
            if not self._is_away:
                logger.warning("Redis is away, each process counts for itself: %s", error)
            self._is_away = True
            self._renew_at = 0.0
            self._give_up()
            self._wake.clear()
        else:
            self._sent = []

    async def _reach(self) -> None:
        """Redis is there when it answers a real question in time, on an open connection; to open one may take longer."""
        if self._abandoned:
            # What is given back must not overtake what was asked before.
            await asyncio.wait(self._abandoned)
        self._take_digest = await self._in_time(self._redis.script_load(TAKE), CONNECT_TIMEOUT_S)
        self._renew_digest = await self._in_time(self._redis.script_load(RENEW), CONNECT_TIMEOUT_S)
        self._spend_digest = await self._in_time(self._redis.script_load(SPEND), CONNECT_TIMEOUT_S)
        probe = self._redis.pipeline(transaction=False)
        probe.evalsha(self._take_digest, 4, "infery:limits:{probe}:requests", "", "", "", 2**31, 0, 0, 0, 0, "", 0)
        await self._in_time(probe.execute(), self._timeout_s)
        self._is_away = False

    async def _exchange(self, asks: list[_Ask]) -> None:
        owed = list(self._owed.items())
        renewals = self._renewals()
        spent, self._spent = self._spent, {}
        if not (asks or owed or renewals or spent):
            return
        commands = self._redis.pipeline(transaction=False)
        for place, places_key in owed:
            commands.zrem(places_key, place)
        for places_key, places in renewals.items():
            commands.evalsha(self._renew_digest, 1, places_key, self._lease_ms, *places)
        for tokens_key, tokens in spent.items():
            commands.evalsha(self._spend_digest, 1, tokens_key, tokens)
        for ask in asks:
            commands.evalsha(self._take_digest, len(ask.keys), *ask.keys, *ask.limits, ask.place, self._lease_ms)
        answers = await commands.execute()
        for place, _ in owed:
            self._owed.pop(place, None)
        for ask, answer in zip(asks, answers[len(answers) - len(asks) :], strict=True):
            self._conclude(ask, answer)

    def _conclude(self, ask: _Ask, answer: list[int]) -> None:
        is_taken = ask.place and answer[0] == Refusal.NONE
        if ask.answer.done():
            # The caller left meanwhile.
            if is_taken:
                self._owed[ask.place] = ask.places_key
                self._wake.set()
            return
        if is_taken:
            self._held[ask.place] = ask.places_key
        ask.answer.set_result(answer)

    def _renewals(self) -> dict[str, list[str]]:
        """The places of running requests by their sorted set, when their leases are due."""
        now = asyncio.get_running_loop().time()
        places_by_key: dict[str, list[str]] = {}
        if now >= self._renew_at:
            self._renew_at = now + self._lease_s / 3
            for place, places_key in self._held.items():
                places_by_key.setdefault(places_key, []).append(place)
        return places_by_key

    def _give_up(self) -> None:
        """Sends all who wait to the counters of the process. What Redis took for them all the same, it is to give back."""
        for ask in (*self._sent, *self._asks):
            if ask.place and ask.place not in self._held:
                self._owed[ask.place] = ask.places_key
            if not ask.answer.done():
                ask.answer.set_result(None)
        self._sent, self._asks = [], []

    async def _in_time(self, command: Awaitable[T], timeout_s: float) -> T:
        """The answer of `command`. TimeoutError when Redis is slow, but not when this event loop is.

        The command is a task of its own, and is not waited for when it is late or the caller is cancelled, because the
        library may swallow a cancellation and go on. Nor could `asyncio.timeout` tell who was slow: after a step of the
        loop that took longer than the deadline, an answer may have arrived unread. A last short wait lets the loop read it.
        """
        task = asyncio.ensure_future(command)
        try:
            await asyncio.wait({task}, timeout=timeout_s)
            if not task.done():
                await asyncio.wait({task}, timeout=LATE_LOOP_GRACE_S)
            if task.done():
                return task.result()
        finally:
            if not task.done():
                self._abandoned.add(task)
                task.add_done_callback(self._forget)
                task.cancel()
        raise TimeoutError(f"no answer within {timeout_s} s")

    def _forget(self, task: asyncio.Future[Any]) -> None:
        """Takes note of how an abandoned command ended, or asyncio complains that nobody did."""
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()


def _keys_of(counted: Counted) -> tuple[str, str, str, str]:
    """The hash of requests, the set of places, the hash of tokens, that of a day's requests.

    The braces keep them on one node of a cluster.
    """
    name = f"infery:limits:{{{counted.counted_id}}}"
    return f"{name}:requests", f"{name}:places", f"{name}:tokens", f"{name}:day"


def _verdict(limits: tuple[int, int, int, int, int], counts: list[int], place: str) -> Verdict:
    """What the script's answer says."""
    max_requests, _, max_tokens, max_tokens_daily, max_requests_daily = limits
    refusal, previous, current, left_ms, tokens_previous, tokens_current, tokens_today, day_left_ms, today = counts
    return Verdict(
        Refusal(refusal),
        Window(max_requests, previous, current, left_ms / 1000) if max_requests else None,
        "" if refusal else place,
        Window(max_tokens, tokens_previous, tokens_current, left_ms / 1000) if max_tokens else None,
        Day(max_tokens_daily, tokens_today, day_left_ms / 1000) if max_tokens_daily else None,
        Day(max_requests_daily, today, day_left_ms / 1000) if max_requests_daily else None,
    )
