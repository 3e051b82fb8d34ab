"""How long what a killed process held may stay held, by the settings of the gateways that tests kill (`tests.live.hasty`)."""

from __future__ import annotations

import time

from tests.live.books import Books
from tests.live.hasty import HOLD_LEASE_S, LEASE_RENEW_S, SWEEP_EVERY_S

GRACE_S = 15.0
"""A pass takes its time, and this machine may be busy."""


def swept_by_s(killed_s: float, served_s: float = 0.0) -> float:
    """When the holds of a process that was killed then are gone, on the monotonic clock.

    Its last lease ends, and the next pass of a neighbour takes them. A successor that serves since `served_s` goes on from
    what the last pass of the killed one knew of the clock, so it watches for half a round of renewal first; while a lease
    lasts longer than a start, as in production, that costs nothing.
    """
    return max(killed_s + HOLD_LEASE_S, served_s + LEASE_RENEW_S / 2) + SWEEP_EVERY_S + GRACE_S


def wait_until_swept(books: Books, *, killed_s: float, served_s: float = 0.0) -> None:
    """Until nothing is held, where nobody is served any more."""
    books.wait_until_none_is_held(swept_by_s(killed_s, served_s))


def wait_until_expired(books: Books, count: int, *, killed_s: float) -> None:
    """Until so many holds have expired in all, by a neighbour that serves on."""
    while (expired := books.count_holds("expired")) < count:
        assert time.monotonic() < swept_by_s(killed_s), f"{count - expired} holds of the killed process are still open"
        time.sleep(0.02)
    assert expired == count, "holds of the living expired, too"
