"""Books kept in memory with the database's rules, for tests of the decider alone."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from billing.ledger.decider import decide, touched
from billing.ledger.effects import AccountRow, BudgetRow, HoldRow, KeyRow, RecordRow, Rows
from billing.pricing import MAX_MICROCREDITS, Line
from tests.unit.billing.books import Subject, hold_of, settle_of

ACME = Subject(workspace_id=1, account_id=10, api_key_id=100)
NOW = datetime(2026, 3, 18, 15, 4, 5, 6, tzinfo=UTC)


class MemoryBooks:
    """Rows as the database keeps them, with the database's rules; effects are applied as the engines write them."""

    def __init__(self, posted=0, budgets=()):
        self.now = NOW
        self.accounts = {10: AccountRow(10, 1, posted, 0)}
        self.keys = {100: KeyRow(100, 1, is_revoked=False, is_expired=False, is_workspace_active=True)}
        self.budgets = {budget.id: budget for budget in budgets}
        self.holds = {}
        self.entries = {}
        self.records = {}
        self.traces = {}

    def read(self, operations):
        subjects = touched(operations)
        rows = Rows(
            [row for row in self.accounts.values() if row.id in subjects.accounts],
            [row for row in self.keys.values() if row.id in subjects.keys],
            [
                row
                for scope in subjects.scopes
                for row in self.budgets.values()
                if (row.scope, row.scope_id) == self.owner(*scope)
            ],
            [row for row in self.holds.values() if row.generation in subjects.generations],
            [RecordRow(r.generation, r.charged_microcredits, r.overrun_microcredits) for r in self.records.values()],
        )
        return msgspec.json.decode(msgspec.json.encode(rows), type=Rows)

    def owner(self, scope, number):
        """Whom a scope names: a member, or a family, by one of its keys."""
        key = self.keys.get(number)
        if scope == "workspace" or key is None:
            return (scope, number)
        return (scope, key.owner_id if scope == "member" else key.family_id or number)

    def run(self, *operations):
        effects = decide(operations, self.read(operations), self.now)
        for change in effects.accounts:
            account = self.accounts[change.id]
            account.posted += change.posted_change
            account.held += change.held_change
            assert 0 <= account.held <= account.posted <= MAX_MICROCREDITS
        for change in effects.budgets:
            self.apply_budget(change)
        for hold in effects.closed_holds:
            row = self.holds[hold.id]
            assert row.is_open
            assert 0 <= hold.settled_microcredits <= row.amount
            assert (hold.state == "settled") == (hold.settled_microcredits > 0)
            assert 0 <= hold.overrun_microcredits <= MAX_MICROCREDITS
            row.is_open = False
        for hold in effects.new_holds:
            assert 0 < hold.amount_microcredits <= MAX_MICROCREDITS
            assert all((h.generation, h.sequence) != (hold.generation, hold.sequence) for h in self.holds.values())
            number = len(self.holds) + 1
            self.holds[number] = hold_row(
                number, hold.account_id, hold.generation, hold.sequence, hold.amount_microcredits, hold.budget_ids
            )
        for entry in effects.entries:
            assert entry.idempotency_key not in self.entries
            self.entries[entry.idempotency_key] = entry
        for record in [*effects.records, *effects.notes]:
            assert record.generation not in self.records
            assert record.status < 400 or record.charged_microcredits == 0
            lines = msgspec.json.decode(record.lines, type=list[Line])
            assert sum(line.amount_microcredits for line in lines) == record.charged_microcredits
            self.records[record.generation] = record
        self.traces |= {trace.generation: trace for trace in effects.traces}
        self.effects = effects
        return effects.results

    def apply_budget(self, change):
        budget = self.budgets[change.id]
        if budget.period_started_at < change.period_started_at:
            budget.period_started_at, budget.spent = change.period_started_at, 0
        budget.spent += change.spent_change
        budget.held += change.held_change
        assert min(budget.spent, budget.held) >= 0
        if change.spent_change + change.held_change > 0:
            assert budget.spent + budget.held <= budget.limit


def budget(limit, *, scope="key", scope_id=100, period="month", spent=0, number=1, started_at=NOW):
    return BudgetRow(number, scope, scope_id, period, limit, spent, 0, started_at)


def hold_row(number, account_id, generation, sequence, amount, budget_ids="[]"):
    return HoldRow(number, account_id, generation, sequence, amount, is_open=True, budget_ids=msgspec.json.decode(budget_ids))


def hold(amount, generation="chatcmpl-a", **fields):
    return hold_of(ACME, amount, generation=generation, **fields)


def settle(actual, generation="chatcmpl-a", **fields):
    return settle_of(ACME, generation, actual, **fields)
