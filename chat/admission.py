"""The only way to hold credit: `async with admit(...)`.

The hold is taken on entering and settled on leaving, exactly once, whatever the reason for leaving: a return, an error,
a cancellation. The settlement is made from the request's journal. Writing goes through the ledger's group commit; a
cancelled waiter never cancels its write.

A fault of ours while credit is held tells the caller not to try again: the provider may have worked for it, and would
be paid by us a second time.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Protocol, Self

import structlog

from billing.ledger.operations import Held, HoldOperation, Settled, SettleOperation
from billing.pricing import PriceList
from chat import outcome
from chat.meter import TaxiMeter
from chat.outcome import Journal, Payer
from chat.schema.quote import StepQuote
from infery_site.errors import NO_RETRY, ApiError, internal_error

log = structlog.get_logger(__name__)


class Ledger(Protocol):
    """What admission needs of the ledger writer."""

    async def hold(self, operation: HoldOperation) -> Held: ...

    async def settle(self, operation: SettleOperation) -> Settled: ...


class Admission:
    """The hold of one generation. `settled` is set once leaving has booked it."""

    def __init__(self, ledger: Ledger, payer: Payer, journal: Journal, first: StepQuote, lease_s: float) -> None:
        self._ledger = ledger
        self._payer = payer
        self._journal = journal
        self._first = first
        self._lease_s = lease_s
        self._sequence = 0
        self.held_microcredits = 0
        self.settled = Settled(0, 0)

    async def __aenter__(self) -> Self:
        try:
            await self._hold(self._first.hold_microcredits, self._first.price_version_id)
        except asyncio.CancelledError as left:
            # The hold may be written although nobody waits for it any more: void it.
            await self._settle(left)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._settle(error)
        except ApiError as refusal:
            if refusal.status == 500:
                raise internal_error(NO_RETRY) from refusal
            raise
        if isinstance(error, Exception) and not isinstance(error, ApiError):
            raise internal_error(NO_RETRY) from error

    async def extend(self, amount_microcredits: int, price_version_id: int) -> bool:
        try:
            await self._hold(amount_microcredits, price_version_id)
        except ApiError as refusal:
            if refusal.status == 402:
                return False
            raise
        return True

    def metered(self, step: StepQuote, prices: PriceList) -> MeteredFare:
        """The fare of a stream that begins to flow on what is held now."""
        return MeteredFare(self, TaxiMeter(step, prices, self.held_microcredits), step.price_version_id)

    async def _hold(self, amount_microcredits: int, price_version_id: int) -> None:
        operation = HoldOperation(
            generation=self._journal.call.generation,
            sequence=self._sequence,
            workspace_id=self._payer.workspace_id,
            account_id=self._payer.account_id,
            api_key_id=self._payer.api_key_id,
            amount_microcredits=amount_microcredits,
            price_version_id=price_version_id,
            lease_s=self._lease_s,
        )
        self._sequence += 1
        await self._ledger.hold(operation)
        self.held_microcredits += amount_microcredits

    async def _settle(self, error: BaseException | None) -> None:
        journal = self._journal
        journal.is_booked = True
        ending = journal.outcome or outcome.of_failure(error)
        if ending.anomalies and journal.served is not None:
            served = journal.served
            names = {"model": served.model.slug, "provider": served.target.provider.slug}
            for anomaly in ending.anomalies:
                log.warning("anomalous usage", generation=journal.call.generation, cause=anomaly, **names)
        self.settled = await self._ledger.settle(outcome.settlement(journal, self._payer, ending, time.monotonic()))


class MeteredFare:
    """Pays the taxi meter of one stream by further holds."""

    def __init__(self, admission: Admission, meter: TaxiMeter, price_version_id: int) -> None:
        self._admission = admission
        self._meter = meter
        self._price_version_id = price_version_id
        self._is_exhausted = False

    async def pay(self, sent_bytes: int) -> bool:
        meter = self._meter
        while not self._is_exhausted and (due := meter.due(sent_bytes)):
            if await self._admission.extend(due, self._price_version_id):
                meter.held(due)
            else:
                self._is_exhausted = True
        return meter.covers(sent_bytes)


def admit(ledger: Ledger, payer: Payer, journal: Journal, first: StepQuote, lease_s: float) -> Admission:
    """Hold what the first step needs while the block runs; settle from the journal when it is left."""
    return Admission(ledger, payer, journal, first, lease_s)
