"""The only way to hold credit: `async with admit(...)`.

The hold is taken on entering and settled on leaving, exactly once, whatever the reason for leaving: a return, an error,
a cancellation. The settlement is made from the request's journal; what the provider counted beyond what is held is held
first, up to the bound of the step that served. Writing goes through the ledger's group commit; a cancelled waiter never
cancels its write.

A fault of ours while credit is held tells the caller not to try again: the provider may have worked for it, and would
be paid by us a second time.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

import structlog

from billing.ledger.operations import Held, HoldOperation, Settled, SettleOperation
from billing.pricing import Cost, PriceList
from chat import outcome
from chat.meter import TaxiMeter
from chat.outcome import Journal, Payer
from chat.schema.delivery import Client, Outcome
from chat.schema.quote import StepQuote
from infery_site.errors import NO_RETRY, ApiError, internal_error

log = structlog.get_logger(__name__)


class Ledger(Protocol):
    """What admission needs of the ledger writer."""

    async def hold(self, operation: HoldOperation) -> Held: ...

    async def settle(self, operation: SettleOperation) -> Settled: ...

    def let_go(self, generation: str) -> None:
        """No settlement will come: leave its holds to their lease."""


class Admission:
    """The hold of one generation. `settled` is set once leaving has booked it, `refusal` by the last hold that was refused."""

    def __init__(
        self, ledger: Ledger, payer: Payer, journal: Journal, first: StepQuote, lease_s: float, client: Client
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._payer = payer
        self._journal = journal
        self._first = first
        self._lease_s = lease_s
        self._sequence = 0
        self.held_microcredits = 0
        self.settled = Settled(0, 0)
        self.refusal: ApiError | None = None

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
        except Exception as fault:
            raise internal_error(NO_RETRY) from fault
        if isinstance(error, Exception) and not isinstance(error, ApiError):
            raise internal_error(NO_RETRY) from error

    async def book_again(self) -> None:
        """Wait once more for a booking whose wait was cancelled. The ledger gives its first answer again."""
        ending = self._journal.outcome
        if ending is None:
            raise AssertionError("nothing was booked that came to its end")
        await self._book(ending, outcome.charge(self._journal, ending))

    async def extend(self, amount_microcredits: int, price_version_id: int) -> bool:
        try:
            await self._hold(amount_microcredits, price_version_id)
        except ApiError as refusal:
            if refusal.status == 402:
                self.refusal = refusal
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
        try:
            ending = journal.outcome or outcome.of_failure(error, has_left=self._client.has_left)
            self._tell(ending)
            cost = outcome.charge(journal, ending)
            try:
                await self._cover(ending, cost)
            finally:
                await self._book(ending, cost)
        except ApiError:
            raise
        except Exception:
            self._ledger.let_go(journal.call.generation)
            raise

    async def _book(self, ending: Outcome, cost: Cost) -> None:
        operation = outcome.settlement(self._journal, self._payer, ending, cost, time.monotonic())
        self.settled = await self._ledger.settle(operation)

    def _tell(self, ending: Outcome) -> None:
        served = self._journal.served
        if served is None:
            return
        generation, model, provider = self._journal.call.generation, served.model.slug, served.target.provider.slug
        for anomaly in ending.anomalies:
            log.warning("anomalous usage", generation=generation, cause=anomaly, model=model, provider=provider)

    async def _cover(self, ending: Outcome, cost: Cost) -> None:
        """Hold what the provider counted beyond what is held: more tokens than the bytes of a stream told, or than usual pages.

        Up to what the client pays at the most. What is beyond that, or refused, the ledger has as our loss.
        """
        served = self._journal.served
        if served is None or ending.usage_source != outcome.REPORTED:
            return
        missing = min(cost.total_microcredits, served.most_microcredits) - self.held_microcredits
        if missing > 0:
            with suppress(ApiError):
                await self._hold(missing, served.bounds.price_version_id)


class MeteredFare:
    """Pays the taxi meter of one stream by further holds."""

    def __init__(self, admission: Admission, meter: TaxiMeter, price_version_id: int) -> None:
        self._admission = admission
        self._meter = meter
        self._price_version_id = price_version_id
        self.is_paid = meter.is_ahead

    async def pay(self, sent_bytes: int) -> bool:
        meter = self._meter
        while due := meter.due(sent_bytes):
            if await self._admission.extend(due, self._price_version_id):
                meter.held(due)
            else:
                meter.refused(sent_bytes)
        return meter.covers(sent_bytes)

    def paid_bytes(self) -> int:
        return self._meter.covered_bytes()


def admit(ledger: Ledger, payer: Payer, journal: Journal, first: StepQuote, lease_s: float, client: Client) -> Admission:
    """Hold what the first step needs while the block runs; settle from the journal when it is left."""
    return Admission(ledger, payer, journal, first, lease_s, client)
