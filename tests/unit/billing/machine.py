"""A plain model of the ledger, and a state machine that compares it with whatever runs batches of operations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from billing.ledger.operations import Held, HoldOperation, HoldRefused, Operation, Result, Settled, SettleOperation
from billing.pricing import MAX_MICROCREDITS
from tests.unit.billing.books import Subject, hold_of, settle_of

EDGES = sorted({0, 1, MAX_MICROCREDITS, *(max(0, 2**k + d) for k in range(54) for d in (-1, 0, 1))})
amounts = st.one_of(
    st.integers(0, 50),
    st.sampled_from([edge for edge in EDGES if edge <= MAX_MICROCREDITS]),
    st.integers(0, MAX_MICROCREDITS),
)
names = st.sampled_from([f"chatcmpl-{letter}" for letter in "abcdef"])


@dataclasses.dataclass
class PlainBooks:
    """One workspace with one budget, kept the obvious way: one operation at a time, with no databases or batches."""

    posted: int
    limit: int
    spent: int = 0
    open: dict[str, dict[int, int]] = dataclasses.field(default_factory=dict)
    closed: dict[str, Settled] = dataclasses.field(default_factory=dict)

    @property
    def held(self) -> int:
        return sum(sum(holds.values()) for holds in self.open.values())

    def hold(self, generation: str, sequence: int, amount: int) -> str | int:
        """The amount held, or the reason of the refusal."""
        if generation in self.closed:
            return "closed"
        holds = self.open.get(generation, {})
        if sequence in holds:
            return holds[sequence]
        if amount > self.limit - self.spent - self.held:
            return "budget"
        if amount > self.posted - self.held:
            return "credits"
        if amount:
            self.open.setdefault(generation, {})[sequence] = amount
        return amount

    def settle(self, generation: str, actual: int) -> Settled:
        if generation not in self.closed:
            charged = min(actual, sum(self.open.pop(generation, {}).values()))
            self.posted -= charged
            self.spent += charged
            self.closed[generation] = Settled(charged, actual - charged)
        return self.closed[generation]


class LedgerMachine(RuleBasedStateMachine):
    """Subclasses run the batches (`run`), add credit (`top_up`) and read the books (`books`)."""

    subject: Subject
    model: PlainBooks

    def open(self, posted: int, limit: int) -> Subject:
        """A workspace of this balance whose key has a budget of this limit."""
        raise NotImplementedError

    def run(self, batch: Sequence[Operation]) -> list[Result]:
        raise NotImplementedError

    def top_up(self, amount: int) -> None:
        raise NotImplementedError

    def books(self) -> tuple[int, int, int, int]:
        """Posted and held of the account; spent and held of the budget."""
        raise NotImplementedError

    def name(self, generation: str) -> str:
        """What the generation is called in the database."""
        return generation

    @initialize(posted=amounts, limit=amounts)
    def begin(self, posted: int, limit: int) -> None:
        self.model = PlainBooks(posted, limit)
        self.subject = self.open(posted, limit)

    @rule(
        holds=st.lists(st.tuples(names, st.integers(1, 3), amounts), max_size=6),
        settles=st.lists(st.tuples(names, amounts), max_size=4),
        settles_come_last=st.booleans(),
    )
    def batch(self, holds: list[tuple[str, int, int]], settles: list[tuple[str, int]], *, settles_come_last: bool) -> None:
        operations: list[Operation] = [
            hold_of(self.subject, amount, generation=self.name(name), sequence=sequence) for name, sequence, amount in holds
        ]
        closings: list[Operation] = [settle_of(self.subject, self.name(name), actual) for name, actual in settles]
        batch = [*operations, *closings] if settles_come_last else [*closings, *operations]
        note(f"{self.model} {holds} {settles}")
        results = dict(zip(map(id, batch), self.run(batch), strict=True))
        for closing, (name, actual) in zip(closings, settles, strict=True):
            assert isinstance(closing, SettleOperation)
            assert results[id(closing)] == self.model.settle(name, actual)
        for operation, (name, sequence, amount) in zip(operations, holds, strict=True):
            assert isinstance(operation, HoldOperation)
            self.compare(results[id(operation)], self.model.hold(name, sequence, amount))

    def compare(self, result: Result, expected: str | int) -> None:
        if isinstance(expected, str):
            assert isinstance(result, HoldRefused), (result, expected)
            assert result.reason == expected
        else:
            assert isinstance(result, Held), (result, expected)
            assert result.amount_microcredits == expected
            assert result.available_microcredits == self.model.posted - self.model.held

    @rule(amount=amounts.filter(bool))
    def credit(self, amount: int) -> None:
        if self.model.posted + amount <= MAX_MICROCREDITS:
            self.top_up(amount)
            self.model.posted += amount

    @invariant()
    def agree(self) -> None:
        model = getattr(self, "model", None)
        if model is not None:
            assert self.books() == (model.posted, model.held, model.spent, model.held)
            assert 0 <= model.held <= model.posted
