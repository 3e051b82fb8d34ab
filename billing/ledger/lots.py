"""Lots: what is left of each credit of a workspace, and what of it expires (pure).

Each credit (plan credits, a grant, a top-up, a refund, a correction upwards) is a lot. No charge names a lot; these
rules say which ones it is paid from:

    what expires first is spent first; what never expires comes last, the older before the newer
    a request is paid from credit that was good when the request was admitted, also when it is settled after its expiry
    credit past its expiry is spent only where nothing else is left: it could be spent because nobody had booked its expiry
    what running requests hold does not expire under them: they count as if they cost all of it

What is left of all lots together is the balance. So what was spent since a moment is what the lots had left then, less
the balance of now: no charge has to be read for it, but those of requests that were admitted after an expiry which is
not booked yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

_EVER = datetime.max.replace(tzinfo=UTC)
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class Lot(msgspec.Struct, frozen=True):
    """What is left of one credit. `id` is that of its entry; it expires at `expires_at`, None for never."""

    id: int
    left: int
    expires_at: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


class Spending(msgspec.Struct, frozen=True):
    """What requests cost, or may cost, that were admitted at one time. A correction downwards is one too."""

    amount: int
    admitted_at: datetime


def spend(lots: Sequence[Lot], spendings: Iterable[Spending]) -> list[Lot]:
    """The lots after these spendings. In whatever order requests are settled, the same is left.

    New credit may come between two calls, not between two spendings of one. Nothing falls below zero.
    """
    left = {lot.id: lot.left for lot in lots}
    for spending in sorted(spendings, key=lambda spending: spending.admitted_at):
        amount = spending.amount
        for lot in sorted(lots, key=lambda lot: _turn(lot, spending.admitted_at)):
            paid = min(amount, left[lot.id])
            left[lot.id] -= paid
            amount -= paid
    return [Lot(lot.id, left[lot.id], lot.expires_at) for lot in lots]


def by_admission(total: int, later: Mapping[datetime, int]) -> list[Spending]:
    """`total` as spendings, where `later` says how much of it requests cost that were admitted at each time or after it."""
    spendings, told = [], 0
    for admitted_at, amount in sorted(later.items(), reverse=True):
        since = max(told, min(amount, total))
        spendings.append(Spending(since - told, admitted_at))
        told = since
    return [*spendings, Spending(total - told, _BEGINNING)]


def expired(lots: Sequence[Lot], open_requests: Iterable[Spending], now: datetime) -> dict[int, int]:
    """How much of which lots has expired and is held by no running request: at most the balance less what is held."""
    return {lot.id: lot.left for lot in spend(lots, open_requests) if lot.left and lot.is_over(now)}


def above(
    lots: Sequence[Lot], open_requests: Iterable[Spending], now: datetime, ids: Collection[int], ceiling: int
) -> dict[int, int]:
    """What good lots of these ids have left beyond `ceiling` together, less what running requests hold of them."""
    excess = sum(lot.left for lot in lots if lot.id in ids and not lot.is_over(now)) - ceiling
    cut: dict[int, int] = {}
    for lot in sorted(spend(lots, open_requests), key=lambda lot: _turn(lot, now)):
        if lot.id in ids and not lot.is_over(now) and (amount := min(excess, lot.left)) > 0:
            cut[lot.id] = amount
            excess -= amount
    return cut


def take(lots: Sequence[Lot], amounts: Mapping[int, int]) -> list[Lot]:
    """The lots less these amounts of each: what an expiry leaves."""
    return [Lot(lot.id, lot.left - amounts.get(lot.id, 0), lot.expires_at) for lot in lots]


def _turn(lot: Lot, admitted_at: datetime) -> tuple[bool, datetime, int]:
    """Lots in the order in which a request that was admitted then is paid from them."""
    return lot.is_over(admitted_at), lot.expires_at or _EVER, lot.id
