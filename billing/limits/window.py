"""What the counters of a key say, and the arithmetic of their windows (pure).

In a sliding minute a request passes while `floor(previous * left / window + current) < limit`, in a day while
`used < limit`; both kinds of counters decide by these rules. Requests are counted when they are let in, tokens when a
request has ended, so what is used may exceed a limit of tokens.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Protocol

import msgspec

WINDOW_S = 60
DAY_S = 86_400
_CLOCK_ERROR_S = 1e-6
"""What is left of a minute comes from a division of the time since 1970, which is not exact to less than that."""


class Window(msgspec.Struct, frozen=True):
    """`previous` requests or tokens in the last clock minute, `current` in the running one, which has `left_s` to go."""

    limit: int
    previous: int
    current: int
    left_s: float

    @property
    def remaining(self) -> int:
        return max(0, self.limit - math.floor(self.previous * self.left_s / WINDOW_S + self.current))

    def retry_after_s(self) -> int:
        """Whole seconds until one more request would pass, if nobody else asks; at least 1."""
        if self.remaining:
            return 1
        if self.current >= self.limit:
            # What was counted in this minute begins to fade with the next.
            return _seconds_past(self.left_s + WINDOW_S * (1 - self.limit / self.current))
        return _seconds_past(self.left_s - WINDOW_S * (self.limit - self.current) / self.previous)

    def reset_s(self) -> int:
        """Whole seconds until the limit is whole again, if nobody asks."""
        if self.current:
            return _seconds_past(self.left_s + WINDOW_S * (1 - 1 / self.current))
        if self.previous:
            return max(0, _seconds_past(self.left_s - WINDOW_S / self.previous))
        return 0


class Day(msgspec.Struct, frozen=True):
    """`used` requests or tokens since midnight in UTC, with `left_s` to the next."""

    limit: int
    used: int
    left_s: float

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    def retry_after_s(self) -> int:
        """Whole seconds until a request would pass; at least 1."""
        return 1 if self.remaining else _seconds_past(self.left_s)

    def reset_s(self) -> int:
        """Whole seconds until the limit is whole again."""
        return _seconds_past(self.left_s) if self.used else 0


class Counted(Protocol):
    """Whose requests are counted, under which name, and within which limits: mostly a Principal."""

    @property
    def counted_id(self) -> int | str: ...
    @property
    def max_requests_per_minute(self) -> int | None: ...
    @property
    def max_requests_daily(self) -> int | None: ...
    @property
    def max_concurrent_requests(self) -> int | None: ...
    @property
    def max_tokens_per_minute(self) -> int | None: ...
    @property
    def max_tokens_daily(self) -> int | None: ...


class Named(msgspec.Struct, frozen=True):
    """What is counted that is no request of a key, such as fetches from a host."""

    counted_id: str
    max_requests_per_minute: int
    max_requests_daily: None = None
    max_concurrent_requests: None = None
    max_tokens_per_minute: None = None
    max_tokens_daily: None = None


class Refusal(IntEnum):
    """Why a request may not run. The numbers are those of the Redis script's answer."""

    NONE = 0
    REQUESTS = 1
    CONCURRENCY = 2
    TOKENS = 3
    DAILY_TOKENS = 4
    DAILY_REQUESTS = 5


class Verdict(msgspec.Struct, frozen=True):
    """The answer of the counters.

    `window` and `daily_requests` are None for a key without a limit of requests in a minute and a day, `tokens` and
    `daily_tokens` for one without a limit of those. `place` is to be given back when the request ends; it is empty when none
    was taken.
    """

    refusal: Refusal
    window: Window | None = None
    place: str = ""
    tokens: Window | None = None
    daily_tokens: Day | None = None
    daily_requests: Day | None = None


def duration(seconds: int) -> str:
    """The notation of the `x-ratelimit-reset-*` headers: `1s`, `6m0s`, `5h0m1s`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _seconds_past(moment_s: float) -> int:
    """Whole seconds that end strictly after `moment_s`: at the moment itself a count still has its old weight."""
    return math.floor(moment_s + _CLOCK_ERROR_S) + 1
