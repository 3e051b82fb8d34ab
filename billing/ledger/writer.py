"""Group commit: one writer per process collects what all requests in flight ask of the ledger and commits it together.

While one batch is being written the next one gathers, so nothing waits on purpose for longer than a few turns of the loop.
Each operation gets its own result, and a failure stays where it belongs:

- An operation that the database refuses, or that our code cannot decide, fails alone: its batch is written once more,
  one by one.
- When the database is away or locked, holds fail with LedgerUnavailable: no request starts unheld. Settlements are tried
  again as long as the process lives, and who waits for one waits as long: told 503, an answer would be free. Asked twice,
  the ledger gives its first answer, so a commit whose outcome is unknown does no harm. Those that have failed for the
  length of a lease are late: each is tried alone, now and then. Notes are dropped.
- When it is one account that somebody keeps locked, the others of its batch go on, after the time that a lock is waited for.
  Its holds fail and its settlements wait until it is seen to be free. Who shares a batch with it in another process may be
  taken for locked, too, but only until that one has found out.
- A request that is cancelled while it waits does not take back what it asked.

It also renews the leases of the holds it opened, every LEASE_RENEW_S, until their settlement has ended one way or the
other: what is left open then belongs to nobody, and its lease ends it.

A writer belongs to one event loop, and owns its engine and the connection in it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Any, Final, TypeVar

import structlog
from django.conf import settings

from billing.errors import (
    BudgetExceeded,
    ExpiredApiKey,
    InsufficientCredits,
    InvalidApiKey,
    LedgerUnavailable,
    WorkspaceSuspended,
)
from billing.ledger.asked import Asked, account_of, generation_of
from billing.ledger.effects import Engine, LedgerDown, RowsLocked
from billing.ledger.engines import engine_of_django
from billing.ledger.locked import kept_locked
from billing.ledger.operations import (
    Held,
    HoldOperation,
    HoldRefused,
    NoteOperation,
    Operation,
    Result,
    Settled,
    SettleOperation,
)
from billing.pricing import MAX_MICROCREDITS
from infery_site.errors import ApiError, internal_error
from infery_site.failpoints import reach

log = structlog.get_logger(__name__)

T = TypeVar("T")

MAX_BATCH: Final = 500
MAX_QUEUED_WITH_NOTES: Final = 5_000
MOST_TURNS: Final = 8
"""Turns of the event loop that a batch gathers for."""
MOST_BARREN_TURNS: Final = 3
"""How many of them may bring nothing, where MANY were written the last time and fewer have asked since."""
MANY: Final = 8
RETRY_FIRST_S: Final = 0.05
RETRY_MOST_S: Final = 1.0
LOOK_EVERY_S: Final = 0.5
"""How often it is looked whether an account is still locked."""


class LedgerWriter:
    """See the module. `start` before the first operation, `stop` after the last; between them the database may come and go.

    Without an engine of its own it takes one on Django's default database when it starts.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self._queue: deque[Asked] = deque()
        self._writing: Sequence[Asked] = ()
        self._written = 0  # How many operations the last batch had.
        self._late: deque[Asked] = deque()
        self._late_at = 0.0  # On the loop's clock: when the next late settlement is tried.
        self._locked: set[int] = set()  # Accounts.
        self._look_at = 0.0  # On the loop's clock: when it is looked whether they still are.
        self._wake = asyncio.Event()
        self._is_open = False
        self._engine = engine
        self._flusher: asyncio.Task[None] | None = None
        self._held: set[str] = set()  # Generations, from their first hold until the end of their settlement.
        self._is_renewal_due = False
        self._renewal: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        engine = self._engine = self._engine or engine_of_django()
        self._is_open = True
        self._flusher = asyncio.create_task(self._flush_for_ever(engine), name="ledger-writer")
        self._renew_after(settings.LEASE_RENEW_S)

    async def stop(self) -> None:
        """Writes what is queued, for at most LEDGER_FLUSH_RETRY_S; what is left then fails with LedgerUnavailable."""
        self._is_open = False
        self._late_at = 0.0
        self._wake.set()
        if self._flusher is not None:
            await asyncio.wait({self._flusher}, timeout=settings.LEDGER_FLUSH_RETRY_S)
            self._flusher.cancel()
            await asyncio.wait({self._flusher})
            self._flusher = None
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        for asked in (*self._queue, *self._late):
            if isinstance(asked.operation, SettleOperation):
                log.error("settlement given up", generation=generation_of(asked.operation))
            asked.fail(LedgerUnavailable())
        self._queue.clear()
        self._late.clear()
        if self._engine is not None:
            await self._engine.close()
            self._engine = None

    @property
    def is_settling(self) -> bool:
        """Whether settlements wait to be written, whoever waits for them."""
        asked = (*self._queue, *self._writing, *self._late)
        return any(isinstance(one.operation, SettleOperation) for one in asked)

    async def hold(self, operation: HoldOperation) -> Held:
        """Reserve credit. Raises the ApiError of the refusal, or LedgerUnavailable."""
        if operation.amount_microcredits < 0:
            raise ValueError("a hold cannot be negative")
        result: Held | HoldRefused = await self._ask(operation)
        if isinstance(result, HoldRefused):
            raise _refusal(result)
        return result

    async def settle(self, operation: SettleOperation) -> Settled:
        """Close the generation and keep its record. Raises LedgerUnavailable when that was impossible until the writer was stopped."""
        if not 0 <= operation.actual_microcredits <= MAX_MICROCREDITS:
            self.let_go(operation.generation)
            raise ValueError("a charge is from nothing to the ledger's limit")
        settled: Settled = await self._ask(operation)
        return settled

    def let_go(self, generation: str) -> None:
        """The generation will not be settled: leave its holds to their lease."""
        self._held.discard(generation)

    def note(self, operation: NoteOperation) -> None:
        """Keep the record of a refused request, if it can be had cheaply."""
        if not self._is_open or len(self._queue) >= MAX_QUEUED_WITH_NOTES:
            log.warning("usage record dropped", generation=operation.record.generation)
            return
        self._enqueue(Asked(operation, None))

    async def _ask(self, operation: Operation) -> Any:
        """The kind of result that the operation has."""
        if not self._is_open:
            raise LedgerUnavailable
        # The queue keeps the operation when the one who waits here is cancelled.
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._enqueue(Asked(operation, answer))
        return await answer

    def _enqueue(self, asked: Asked) -> None:
        self._queue.append(asked)
        self._wake.set()

    async def _flush_for_ever(self, engine: Engine) -> None:
        """Ends when the writer is closed and nothing is left to write."""
        retry_after_s = RETRY_FIRST_S
        while self._is_open or self._queue or self._late:
            if self._is_renewal_due:
                await self._renew(engine)
            if self._locked:
                await self._look(engine)
            await self._gather()
            batch = self._writing = self._next_batch()
            if not batch:
                await self._idle()
                continue
            self._written = len(batch)
            try:
                is_there = await self._flush(engine, batch)
            except asyncio.CancelledError:
                self._queue.extendleft(reversed(batch))  # `stop` answers those who wait.
                raise
            finally:
                self._writing = ()
            if is_there:
                if batch[0].late_from is not None:
                    self._late_at = 0.0  # The next one at once.
                retry_after_s = RETRY_FIRST_S
            else:
                await asyncio.sleep(retry_after_s)
                retry_after_s = min(retry_after_s * 2, RETRY_MOST_S)

    async def _gather(self) -> None:
        """Lets those who are about to ask do so, while each turn of the loop brings some: a batch costs much, an operation little.

        Those who were answered together go on together and ask again a few turns apart, so one turn without any is not yet
        the end where they are many. Nobody waits for whoever may come later.
        """
        gathered, barren_turns = 0, MOST_BARREN_TURNS if self._written >= MANY else 0
        for _ in range(MOST_TURNS):
            if len(self._queue) <= gathered:
                if not barren_turns or not 0 < gathered < self._written:
                    return
                barren_turns -= 1
            gathered = len(self._queue)
            await asyncio.sleep(0)

    def _next_batch(self) -> list[Asked]:
        """A late settlement if it is time for one, else what has gathered."""
        now = asyncio.get_running_loop().time()
        if self._late and now >= self._late_at:
            self._late_at = now + settings.LEDGER_RETRY_LATE_S
            for _ in range(len(self._late)):
                asked = self._late.popleft()
                if account_of(asked.operation) not in self._locked:
                    return [asked]
                self._late.append(asked)
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
        return self._possible(batch) if self._locked else batch

    def _possible(self, batch: Sequence[Asked]) -> list[Asked]:
        """The batch without what concerns a locked account: its holds have failed, its settlements are late."""
        possible: list[Asked] = []
        for asked in batch:
            if account_of(asked.operation) not in self._locked:
                possible.append(asked)
            elif isinstance(asked.operation, SettleOperation):
                self._be_late(asked)
            else:
                asked.fail(LedgerUnavailable())
        return possible

    async def _look(self, engine: Engine) -> None:
        """Finds out, now and then, which accounts are still locked."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._look_at:
            return
        still = await kept_locked(engine, self._locked)
        self._look_at = loop.time() + LOOK_EVERY_S
        if still is None or still == self._locked:
            return
        free, self._locked = self._locked - still, still
        ready = [asked for asked in self._late if account_of(asked.operation) in free]
        self._late = deque([asked for asked in self._late if account_of(asked.operation) not in free])
        self._queue.extendleft(reversed(ready))

    async def _idle(self) -> None:
        """Until somebody asks for something, or a late settlement is to be tried."""
        loop = asyncio.get_running_loop()
        self._wake.clear()
        next_at = min(self._late_at, self._look_at) if self._locked else self._late_at
        timer = loop.call_at(next_at, self._wake.set) if self._late else None
        await self._wake.wait()
        if timer is not None:
            timer.cancel()

    async def _flush(self, engine: Engine, batch: Sequence[Asked]) -> bool:
        """Writes the batch and answers its operations; False if the database was not there to do so."""
        reach("ledger.asked")
        outcome = await _outcome(engine.run([asked.operation for asked in batch]))
        if not isinstance(outcome, BaseException):
            reach("ledger.written")
            self._answer(batch, outcome)
            return True
        if isinstance(outcome, RowsLocked) and await self._finds_locked(engine, batch):
            possible = self._possible(batch)
            return not possible or await self._flush(engine, possible)
        if isinstance(outcome, LedgerDown):
            log.error("the ledger's database is unavailable", count=len(batch), exc_info=outcome)
            self._put_off(batch)
            return False
        if len(batch) == 1:
            log.error("the ledger refused an operation", generation=generation_of(batch[0].operation), exc_info=outcome)
            if isinstance(batch[0].operation, SettleOperation):
                self.let_go(batch[0].operation.generation)
            batch[0].fail(internal_error())
            return True
        log.warning("the ledger refused a batch: writing it one by one", batch_size=len(batch), exc_info=outcome)
        is_there = True
        for asked in batch:
            is_there = await self._flush(engine, [asked]) and is_there
        return is_there

    def _answer(self, batch: Sequence[Asked], results: Sequence[Result]) -> None:
        for asked, result in zip(batch, results, strict=True):
            asked.succeed(result)
            if isinstance(result, Held) and not asked.is_forsaken:
                self._held.add(generation_of(asked.operation))
            elif isinstance(result, Settled):
                self._held.discard(generation_of(asked.operation))
                if result.overrun_microcredits:
                    _alarm_overrun(asked.operation, result)

    async def _finds_locked(self, engine: Engine, batch: Sequence[Asked]) -> bool:
        """Whether it was an account of the batch that could not be had; from now on it is known."""
        accounts = {asked.operation.account_id for asked in batch if not isinstance(asked.operation, NoteOperation)}
        locked = await kept_locked(engine, accounts)
        if not locked:
            return False
        log.error("accounts are locked", accounts=sorted(locked))
        self._locked |= locked
        self._look_at = asyncio.get_running_loop().time() + LOOK_EVERY_S
        return True

    def _put_off(self, batch: Sequence[Asked]) -> None:
        """Keeps settlements for another try; the rest has failed."""
        now = asyncio.get_running_loop().time()
        kept: list[Asked] = []
        for asked in batch:
            if not isinstance(asked.operation, SettleOperation):
                asked.fail(LedgerUnavailable())
                continue
            if asked.late_from is None:
                asked.late_from = now + settings.HOLD_LEASE_S
            if now < asked.late_from:
                kept.append(asked)
            else:
                self._be_late(asked)
        self._queue.extendleft(reversed(kept))

    def _be_late(self, asked: Asked) -> None:
        log.error("settlement is late", generation=generation_of(asked.operation))
        if asked.late_from is None:
            asked.late_from = asyncio.get_running_loop().time()
        self._late.append(asked)

    async def _renew(self, engine: Engine) -> None:
        """Renews all leases in one statement; soon again if that failed."""
        self._is_renewal_due = False
        renew_after_s = settings.LEASE_RENEW_S
        if self._held:
            error = await _outcome(engine.renew(list(self._held), settings.HOLD_LEASE_S))
            if error is not None:
                log.error("leases could not be renewed", count=len(self._held), exc_info=error)
                renew_after_s = min(renew_after_s, RETRY_MOST_S)
        self._renew_after(renew_after_s)

    def _renew_after(self, delay_s: float) -> None:
        self._renewal = asyncio.get_running_loop().call_later(delay_s, self._ask_for_renewal)

    def _ask_for_renewal(self) -> None:
        self._is_renewal_due = True
        self._wake.set()


async def _outcome(work: Awaitable[T]) -> T | BaseException:
    """What the engine's work gives. Whatever goes wrong in it comes back as a value: the writer's loop must outlive it."""
    outcome: T | BaseException
    try:
        outcome = await work
    except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - see above
        outcome = error
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError  # It is the writer that is stopped, whatever the work made of that.
    return outcome


def _alarm_overrun(operation: Operation, result: Settled) -> None:
    log.error("overrun", generation=generation_of(operation), overrun_microcredits=result.overrun_microcredits)


def _refusal(refused: HoldRefused) -> ApiError:
    needed, available = refused.needed_microcredits, max(refused.available_microcredits, 0)
    match refused.reason:
        case "key":
            return InvalidApiKey()
        case "expired":
            return ExpiredApiKey()
        case "workspace":
            return WorkspaceSuspended()
        case "budget":
            return BudgetExceeded(refused.scope, refused.limit_microcredits, available, needed)
        case "credits":
            return InsufficientCredits(needed, refused.held_microcredits, available)
        case _:
            # A hold for a generation that was closed: no correct caller asks for one.
            return internal_error()
