"""Whose turn it is where strangers may be slow (no I/O): nobody has two turns at once, and who used the least time is next.

A lane is a queue of messages to one receiver, `owner-receiver` by its name. Owners share the time alike, and so do the lanes
of each. Whoever comes anew begins with as much as has the one who used least, so that nobody comes first by staying away.
"""

from __future__ import annotations

import threading
from collections.abc import Collection


class Turns:
    """For the threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lane_at_work: dict[str, str] = {}
        self._owner_used_s: dict[str, float] = {}
        self._lane_used_s: dict[str, float] = {}

    def begin(self, lanes: Collection[str]) -> str | None:
        """One of these lanes, in which something waits; None if the owner of each has a turn. Call `end` when it is over."""
        with self._lock:
            owners = {_owner(lane) for lane in lanes}
            self._owner_used_s = _carried(self._owner_used_s, owners | self._lane_at_work.keys())
            self._lane_used_s = _carried(self._lane_used_s, {*lanes, *self._lane_at_work.values()})
            free = [lane for lane in lanes if _owner(lane) not in self._lane_at_work]
            if not free:
                return None
            lane = min(free, key=lambda lane: (self._owner_used_s[_owner(lane)], self._lane_used_s[lane], lane))
            self._lane_at_work[_owner(lane)] = lane
            return lane

    def end(self, lane: str, used_s: float) -> None:
        """`used_s` is how long the turn took."""
        with self._lock:
            del self._lane_at_work[_owner(lane)]
            self._owner_used_s[_owner(lane)] += used_s
            self._lane_used_s[lane] += used_s


def _owner(lane: str) -> str:
    return lane.rpartition("-")[0]


def _carried(used_s: dict[str, float], present: Collection[str]) -> dict[str, float]:
    """What is known of those who are there; whoever is not is forgotten."""
    least_s = min((used_s[name] for name in present if name in used_s), default=0.0)
    return {name: used_s.get(name, least_s) for name in present}
