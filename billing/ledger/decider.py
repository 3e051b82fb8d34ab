"""Which rows a batch of operations changes, given the rows it locked (pure).

Both engines share this module: they lock, read, call `decide`, and write what it answers. A batch is decided as if its
operations ran one after the other: settlements first, because they free credit, then holds in the order in which they
came, then notes. A hold whose generation is settled in the same batch is therefore refused as `closed` and cannot stay
open behind its settlement.

Invariants, for whatever batch:

- an account's `posted - held` is never below zero after a hold is admitted;
- a generation is charged at most once, at most what its open holds cover;
- an operation that comes again changes nothing and gets its first answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from billing.ledger.effects import (
    AccountChange,
    AccountRow,
    BudgetChange,
    BudgetRow,
    ClosedHold,
    Effects,
    HoldRow,
    NewEntry,
    NewHold,
    NewRecord,
    NewTrace,
    RecordRow,
    Rows,
    Touched,
)
from billing.ledger.operations import (
    END_STATE_EXPIRED,
    END_USER_LENGTH,
    Held,
    HoldOperation,
    HoldRefused,
    NoteOperation,
    Operation,
    RequestRecord,
    Result,
    Settled,
    SettleOperation,
    TraceRecord,
)
from billing.pricing import MAX_MICROCREDITS, Line

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

_encode_json = msgspec.json.Encoder().encode


def period_start(period: str, now: datetime) -> datetime:
    """When the period of a budget began that `now` lies in, in UTC: midnight, Monday, the first; `never` has one period."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return day
    if period == "week":
        return day - timedelta(days=day.weekday())
    if period == "month":
        return day.replace(day=1)
    return _BEGINNING


def touched(operations: Iterable[Operation]) -> Touched:
    """What `decide` must be given of the database for these operations."""
    accounts: set[int] = set()
    keys: set[int] = set()
    scopes: set[tuple[str, int]] = set()
    generations: set[str] = set()
    for operation in operations:
        if isinstance(operation, HoldOperation):
            accounts.add(operation.account_id)
            keys.add(operation.api_key_id)
            scopes.update(_scopes_above(operation.api_key_id, operation.workspace_id))
            generations.add(operation.generation)
        else:
            record = operation.record
            generations.add(record.generation)
            if isinstance(operation, SettleOperation):
                accounts.add(operation.account_id)
                scopes.update(_scopes_above(record.api_key_id, record.workspace_id))
    return Touched(sorted(accounts), sorted(keys), sorted(scopes), sorted(generations))


def _scopes_above(api_key_id: int, workspace_id: int) -> tuple[tuple[str, int], ...]:
    """Whose budgets limit a key. Its family and its owner are named by the key, because only the database knows them."""
    return ("key", api_key_id), ("member", api_key_id), ("workspace", workspace_id)


def decide(operations: Sequence[Operation], rows: Rows, now: datetime) -> Effects:
    """What the batch does. `now` is the database's clock, read under the locks."""
    decision = _Decision(rows, now)
    results: list[Result] = [None] * len(operations)
    holds: list[tuple[int, HoldOperation]] = []
    notes: list[NoteOperation] = []
    for position, operation in enumerate(operations):
        if isinstance(operation, SettleOperation):
            results[position] = decision.settle(operation)
        elif isinstance(operation, HoldOperation):
            holds.append((position, operation))
        else:
            notes.append(operation)
    for position, hold in holds:
        results[position] = decision.hold(hold)
    for note in notes:
        decision.note(note)
    return decision.effects(results)


class _Decision:
    """The locked rows with the changes of the batch so far applied to them, and those changes."""

    def __init__(self, rows: Rows, now: datetime) -> None:
        self.now = now
        self.accounts = {account.id: account for account in rows.accounts}
        self.keys = {key.id: key for key in rows.keys}
        self.budgets = {budget.id: budget for budget in rows.budgets}
        self.budgets_by_scope: dict[tuple[str, int], list[BudgetRow]] = {}
        # Two keys of one member name his budgets twice.
        for budget in self.budgets.values():
            self.budgets_by_scope.setdefault((budget.scope, budget.scope_id), []).append(budget)
        self.holds: dict[str, list[HoldRow]] = {}
        for hold in rows.holds:
            self.holds.setdefault(hold.generation, []).append(hold)
        self.records = {record.generation: record for record in rows.records}
        self.account_changes: dict[int, AccountChange] = {}
        self.budget_changes: dict[int, BudgetChange] = {}
        self.leases: dict[float, datetime] = {}
        self.changes = Effects([], [], [], [], [], [], [], [], [])

    def effects(self, results: list[Result]) -> Effects:
        self.changes.results = results
        self.changes.accounts = sorted(self.account_changes.values(), key=lambda change: change.id)
        self.changes.budgets = sorted(self.budget_changes.values(), key=lambda change: change.id)
        return self.changes

    def hold(self, operation: HoldOperation) -> Held | HoldRefused:
        account, siblings = self.accounts.get(operation.account_id), self.holds.get(operation.generation, ())
        if account is None or account.workspace_id != operation.workspace_id:
            return _refused("key", operation)
        if operation.generation in self.records or not all(s.is_open and s.account_id == account.id for s in siblings):
            return _refused("closed", operation)
        for sibling in siblings:
            if sibling.sequence == operation.sequence:
                return Held(sibling.amount, account.available)
        budgets = self._budgets_above(operation)
        refusal = self._key_refusal(operation) or _budget_refusal(budgets, operation) or _credit_refusal(account, operation)
        if refusal is not None:
            return refusal
        if operation.amount_microcredits:
            self._open(operation, account, budgets)
        return Held(operation.amount_microcredits, account.available)

    def settle(self, operation: SettleOperation) -> Settled:
        record, generation = operation.record, operation.record.generation
        taken = self.holds.get(generation, ())
        holds = [hold for hold in taken if hold.is_open and hold.account_id == operation.account_id]
        known = self.records.get(generation)
        if known is not None:
            # The first settlement stands. A hold that arrived behind it (its connection was lost) is released.
            if holds:
                self._close(holds, 0, 0, record)
            return Settled(known.charged, known.overrun)
        if not all(hold.is_open for hold in taken):
            # Without a record nothing but its lease can have closed a hold.
            record = msgspec.structs.replace(record, end_state=END_STATE_EXPIRED)
        charged = min(operation.actual_microcredits, operation.most_microcredits, sum(hold.amount for hold in holds))
        overrun = min(operation.actual_microcredits - charged, MAX_MICROCREDITS)
        if holds:
            self._close(holds, charged, overrun, record)
        lines = record.lines
        if charged != operation.actual_microcredits:
            lacking = charged - operation.actual_microcredits
            lines = (*lines, Line("overrun", 1, "request", lacking, lacking))
        self.changes.records.append(_new_record(record, lines, charged, overrun))
        if operation.trace is not None:
            self.changes.traces.append(_new_trace(operation.trace))
        self.records[generation] = RecordRow(generation, charged, overrun)
        return Settled(charged, overrun)

    def note(self, operation: NoteOperation) -> None:
        generation = operation.record.generation
        if generation in self.records:
            return
        self.changes.notes.append(_new_record(operation.record, operation.record.lines, 0, 0))
        if operation.trace is not None:
            self.changes.traces.append(_new_trace(operation.trace))
        self.records[generation] = RecordRow(generation, 0, 0)

    def _key_refusal(self, operation: HoldOperation) -> HoldRefused | None:
        key = self.keys.get(operation.api_key_id)
        if key is None or key.is_revoked or key.workspace_id != operation.workspace_id:
            return _refused("key", operation)
        if key.is_expired:
            return _refused("expired", operation)
        return None if key.is_workspace_active else _refused("workspace", operation)

    def _budgets_above(self, operation: HoldOperation) -> list[BudgetRow]:
        """The budgets that limit this hold, each in the period of now."""
        if not self.budgets:
            return []
        key = self.keys.get(operation.api_key_id)
        owner_id = None if key is None else key.owner_id
        first_id = operation.api_key_id if key is None or key.family_id is None else key.family_id
        budgets = [
            *self.budgets_by_scope.get(("key", first_id), ()),
            *(() if owner_id is None else self.budgets_by_scope.get(("member", owner_id), ())),
            *self.budgets_by_scope.get(("workspace", operation.workspace_id), ()),
        ]
        for budget in budgets:
            self._roll_over(budget)
        return budgets

    def _roll_over(self, budget: BudgetRow) -> None:
        """Begins a new period when the old one is past. What is held stays held: it will be spent in the new period."""
        start = period_start(budget.period, self.now)
        if start > budget.period_started_at:
            budget.period_started_at = start
            budget.spent = 0

    def _open(self, operation: HoldOperation, account: AccountRow, budgets: Iterable[BudgetRow]) -> None:
        amount, budget_ids = operation.amount_microcredits, [budget.id for budget in budgets]
        self._change_account(account.id, posted=0, held=amount)
        for budget_id in budget_ids:
            self._change_budget(budget_id, spent=0, held=amount)
        lease = self.leases.get(operation.lease_s)
        if lease is None:
            lease = self.leases[operation.lease_s] = self.now + timedelta(seconds=operation.lease_s)
        self.changes.new_holds.append(
            NewHold(
                account.id,
                operation.api_key_id,
                operation.generation,
                operation.sequence,
                amount,
                operation.price_version_id,
                _encode_json(budget_ids).decode(),
                lease,
            )
        )
        row = HoldRow(None, account.id, operation.generation, operation.sequence, amount, is_open=True, budget_ids=budget_ids)
        self.holds.setdefault(operation.generation, []).append(row)

    def _close(self, holds: list[HoldRow], charged: int, overrun: int, record: RequestRecord) -> None:
        """Closes open holds in sequence: each pays what it can of `charged`; one that pays nothing becomes void."""
        holds.sort(key=lambda hold: hold.sequence)
        last, left, paying = holds[-1], charged, None
        for hold in holds:
            paid = min(left, hold.amount)
            left -= paid
            if paid and paying is None:
                paying = hold
            hold.is_open = False
            self.changes.closed_holds.append(
                ClosedHold(
                    _stored_id(hold),
                    "settled" if paid else "voided",
                    paid,
                    overrun if hold is last else 0,
                    _text(record.usage_source, 12),
                )
            )
            for budget_id in hold.budget_ids:
                self._change_budget(budget_id, spent=paid, held=-hold.amount)
        account_id = last.account_id
        self._change_account(account_id, posted=-charged, held=-sum(hold.amount for hold in holds))
        if paying is not None:
            generation = record.generation
            entry = NewEntry(account_id, charged, generation, f"usage:{generation}", _stored_id(paying))
            self.changes.entries.append(entry)

    def _change_account(self, account_id: int, *, posted: int, held: int) -> None:
        account = self.accounts[account_id]
        account.posted += posted
        account.held += held
        change = self.account_changes.get(account_id)
        if change is None:
            change = self.account_changes[account_id] = AccountChange(account_id, 0, 0)
        change.posted_change += posted
        change.held_change += held

    def _change_budget(self, budget_id: int, *, spent: int, held: int) -> None:
        """A budget that was deleted since is passed over."""
        budget = self.budgets.get(budget_id)
        if budget is None:
            return
        self._roll_over(budget)
        budget.spent += spent
        budget.held += held
        change = self.budget_changes.get(budget_id)
        if change is None:
            change = self.budget_changes[budget_id] = BudgetChange(budget_id, 0, 0, budget.period_started_at)
        change.spent_change += spent
        change.held_change += held


def _refused(reason: str, operation: HoldOperation) -> HoldRefused:
    return HoldRefused(reason, needed_microcredits=operation.amount_microcredits)


def _budget_refusal(budgets: Iterable[BudgetRow], operation: HoldOperation) -> HoldRefused | None:
    for budget in budgets:
        left = budget.limit - budget.spent - budget.held
        if operation.amount_microcredits > left:
            return HoldRefused(
                "budget",
                needed_microcredits=operation.amount_microcredits,
                available_microcredits=left,
                held_microcredits=budget.held,
                limit_microcredits=budget.limit,
                scope=budget.scope,
            )
    return None


def _credit_refusal(account: AccountRow, operation: HoldOperation) -> HoldRefused | None:
    if operation.amount_microcredits <= account.available:
        return None
    return HoldRefused(
        "credits",
        needed_microcredits=operation.amount_microcredits,
        available_microcredits=account.available,
        held_microcredits=account.held,
    )


def _stored_id(hold: HoldRow) -> int:
    if hold.id is None:
        raise AssertionError("settlements are decided before the holds of their batch")
    return hold.id


def _new_record(record: RequestRecord, lines: tuple[Line, ...], charged: int, overrun: int) -> NewRecord:
    usage = record.usage
    return NewRecord(
        record.generation,
        _text(record.request_id, 128),
        record.workspace_id,
        record.api_key_id,
        _text(record.model_asked, 256),
        _text(record.model_used, 128),
        _text(record.provider, 64),
        record.price_version_id,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.audio_tokens,
        usage.reasoning_tokens,
        _text(record.usage_source, 12),
        charged,
        overrun,
        _encode_json(lines).decode() if lines else "[]",
        record.is_stream,
        record.status,
        _text(record.end_state, 24),
        _text(record.error_code, 64),
        _text(record.finish_reason, 24),
        record.fallback_depth,
        record.latency_ms,
        record.first_token_ms,
        _text(record.end_user, END_USER_LENGTH),
    )


def _new_trace(trace: TraceRecord) -> NewTrace:
    return NewTrace(trace.generation, _json(trace.attempts_json), _json(trace.adaptations_json), _json(trace.timings_ms_json))


def _text(text: str, limit: int) -> str:
    """A label as the column takes it, so that no text from outside can keep a settlement from being booked."""
    if len(text) <= limit and text.isprintable():
        return text
    return "".join(character if character.isprintable() else "?" for character in text[:limit])


def _json(text: str) -> str:
    """JSON as the column takes it: PostgreSQL keeps no character zero."""
    return text.replace("\\u0000", "\\ufffd") if "\\u0000" in text else text
