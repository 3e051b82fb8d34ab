"""How the targets fare that this process calls: a breaker for each, and a budget of extra calls for each provider.

A breaker opens when half of a target's last calls since its first failure failed, five at the least, and nobody waits for that
target any more; then one call a second may try it, or one in four seconds while such a call hangs, and the first that succeeds
closes it. Refusals of a request and limits of rate are no failures: they say that the target is there.

Extra calls, which are retries and further targets and models of the same provider, are at most a fifth of the first ones within ten
seconds (and a few, where there are next to none), so that a provider in trouble is not asked twice as much.

Each process judges by its own calls: they are enough to know within a second of load, and nothing has to be shared. For one
event loop; nothing here waits. Times are monotonic seconds.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from chat.errors import (
    UpstreamContextLength,
    UpstreamCrowded,
    UpstreamFailure,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamSpared,
    UpstreamTooLarge,
)
from chat.schema.route import TargetInfo

WINDOW_S: Final = 10.0
WINDOW_CALLS: Final = 20
LEAST_FAILURES: Final = 5
FAILED_SHARE: Final = 0.5
PROBE_EVERY_S: Final = 1.0
PROBE_PATIENCE_S: Final = 4.0
EXTRA_SHARE: Final = 0.2
EXTRA_ALWAYS: Final = 10
"""Enough for the chains of requests that fail until the breaker opens."""

_BLAMELESS = (UpstreamRejected, UpstreamContextLength, UpstreamTooLarge, UpstreamRateLimited)


class Patience(msgspec.Struct, frozen=True):
    """How many failures open a breaker, how often an open one lets a call through, how many extra calls are always fine."""

    least_failures: int = LEAST_FAILURES
    probe_every_s: float = PROBE_EVERY_S
    extra_always: int = EXTRA_ALWAYS


class _Breaker:
    """What is known of one target: how its last calls ended, and when it may be tried next."""

    __slots__ = ("calls", "is_open", "is_probed", "probe_at_s")

    def __init__(self) -> None:
        self.calls: deque[tuple[float, bool]] = deque(maxlen=WINDOW_CALLS)
        self.is_open = False
        self.is_probed = False
        self.probe_at_s = 0.0

    def is_shut(self, now_s: float) -> bool:
        """Open, and not due to be tried."""
        return self.is_open and self.probe_at_s > now_s


class Health:
    """See the module. One per process."""

    def __init__(self, patience: Patience | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience or Patience()
        self._clock = clock
        self._breakers: dict[int, _Breaker] = {}
        self._first_calls: dict[str, deque[float]] = {}
        self._extra_calls: dict[str, deque[float]] = {}

    def is_bad(self, target: TargetInfo) -> bool:
        """Whether the target is better tried after its equals. Changes nothing.

        One that is due to be tried is as good as they are: else nobody would find out that it has healed.
        """
        breaker = self._breakers.get(target.id)
        return breaker is not None and breaker.is_shut(self._clock())

    def admit(self, target: TargetInfo, *, is_extra: bool = False) -> None:
        """Count a call to the target and its provider.

        Raises UpstreamSpared where it would be one too many for a target in trouble, or an extra one for which the budget of
        its provider has no room. What is refused counts nowhere.
        """
        now_s, breaker = self._clock(), self._breakers.get(target.id)
        if breaker is not None and breaker.is_shut(now_s):
            raise UpstreamSpared(retry_after_s=math.ceil(breaker.probe_at_s - now_s))
        provider = target.provider.slug
        if is_extra and not self._has_room(provider, now_s):
            raise UpstreamSpared
        _recent(self._extra_calls if is_extra else self._first_calls, provider, now_s).append(now_s)
        if breaker is not None and breaker.is_open:
            breaker.is_probed = True
            breaker.probe_at_s = now_s + max(self._patience.probe_every_s, PROBE_PATIENCE_S)

    def is_worth_a_retry(self, target: TargetInfo) -> bool:
        """Whether a target that has just failed may be asked once more, as things stand."""
        return not self.is_bad(target) and self._has_room(target.provider.slug, self._clock())

    def _has_room(self, provider: str, now_s: float) -> bool:
        firsts, extras = _recent(self._first_calls, provider, now_s), _recent(self._extra_calls, provider, now_s)
        return len(extras) < max(self._patience.extra_always, int(len(firsts) * EXTRA_SHARE))

    def succeeded(self, target: TargetInfo) -> None:
        """The target gave an answer, or the first word of one, or said no."""
        breaker = self._breakers.get(target.id)
        if breaker is None:
            return
        breaker.calls.append((self._clock(), True))
        if breaker.is_open:
            breaker.is_open = breaker.is_probed = False
            breaker.calls.clear()

    def failed(self, target: TargetInfo, failure: UpstreamFailure) -> None:
        """The target gave none, or broke off in the middle of one."""
        if isinstance(failure, UpstreamCrowded):
            self.withdrawn(target)
            return
        if isinstance(failure, _BLAMELESS):
            breaker = self._breakers.get(target.id)
            if breaker is not None and breaker.is_open:
                self.succeeded(target)
            return
        breaker = self._breakers.setdefault(target.id, _Breaker())
        now_s = self._clock()
        breaker.calls.append((now_s, False))
        failures = [at_s for at_s, is_good in breaker.calls if not is_good and at_s > now_s - WINDOW_S]
        calls = [at_s for at_s, _ in breaker.calls if at_s > now_s - WINDOW_S]
        self._try_again_soon(breaker, now_s)
        if not breaker.is_open and len(failures) >= max(self._patience.least_failures, len(calls) * FAILED_SHARE):
            breaker.is_open = True
            breaker.probe_at_s = now_s + self._patience.probe_every_s

    def withdrawn(self, target: TargetInfo) -> None:
        """A call that was admitted has ended without a word of the target: its caller left, or it was never sent."""
        breaker = self._breakers.get(target.id)
        if breaker is not None:
            self._try_again_soon(breaker, self._clock())

    def _try_again_soon(self, breaker: _Breaker, now_s: float) -> None:
        """The call that tried the target is over, and the next need not wait for it."""
        if breaker.is_probed:
            breaker.is_probed = False
            breaker.probe_at_s = now_s + self._patience.probe_every_s


def _recent(calls: dict[str, deque[float]], provider: str, now_s: float) -> deque[float]:
    """The provider's calls within the window."""
    recent = calls.setdefault(provider, deque())
    while recent and recent[0] <= now_s - WINDOW_S:
        recent.popleft()
    return recent
