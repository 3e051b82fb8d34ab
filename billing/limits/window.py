"""What the counters of a key say, and the arithmetic of the sliding window (pure).

A request passes while `floor(previous * left / window + current) < limit`; both kinds of counters decide by this rule.
"""

from __future__ import annotations

import math
from enum import IntEnum

import msgspec

WINDOW_S = 60


class Window(msgspec.Struct, frozen=True):
    """`previous` requests in the last clock minute, `current` in the running one, which has `left_s` to go."""

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


class Refusal(IntEnum):
    """Why a request may not run. The numbers are those of the Redis script's answer."""

    NONE = 0
    REQUESTS = 1
    CONCURRENCY = 2


class Verdict(msgspec.Struct, frozen=True):
    """The answer of the counters.

    `window` is None for a key without a limit of requests. `place` is to be given back when the request ends; it is empty
    when none was taken.
    """

    refusal: Refusal
    window: Window | None = None
    place: str = ""


def duration(seconds: int) -> str:
    """The notation of the `x-ratelimit-reset-*` headers: `1s`, `6m0s`."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _seconds_past(moment_s: float) -> int:
    """Whole seconds that end strictly after `moment_s`: at the moment itself a count still has its old weight."""
    return math.floor(moment_s) + 1
