"""A plain model of the ledger, and a state machine that compares it with whatever runs batches of operations.

One workspace, three keys of one member, and budgets that come, change and go: each key may have one, the member one, the
workspace one. Holds are asked for, settled, expired; keys are revoked, the workspace is suspended, credit comes and goes.
"""

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
LEASE_S = 86_400.0  # longer than any run: a lease ends when the test says so

amounts = st.one_of(
    st.integers(0, 50),
    st.sampled_from([edge for edge in EDGES if edge <= MAX_MICROCREDITS]),
    st.integers(0, MAX_MICROCREDITS),
)
KEY_OF = {
    f"chatcmpl-{letter}": key for letter, key in zip("abcdef", ("one", "one", "two", "two", "three", "three"), strict=True)
}
"""Generations, and which key asks for each. The first key is never revoked."""
names = st.sampled_from(sorted(KEY_OF))
LIMITED = ("one", "two", "three", "member", "workspace")
SCOPE_OF = {"one": "key", "two": "key", "three": "key", "member": "member", "workspace": "workspace"}


@dataclasses.dataclass
class PlainBudget:
    limit: int
    spent: int = 0
    held: int = 0
    is_lifted: bool = False
    """It limits nothing, and goes on counting."""


@dataclasses.dataclass
class PlainHold:
    amount: int
    budgets: list[PlainBudget]
    is_open: bool = True

    def close(self, paid: int) -> None:
        self.is_open = False
        for budget in self.budgets:
            budget.held -= self.amount
            budget.spent += paid


@dataclasses.dataclass
class PlainBooks:
    """One workspace, kept the obvious way: one operation at a time, with no databases or batches."""

    posted: int
    budgets: dict[str, PlainBudget]
    revoked: set[str] = dataclasses.field(default_factory=set)
    is_suspended: bool = False
    holds: dict[str, dict[int, PlainHold]] = dataclasses.field(default_factory=dict)
    closed: dict[str, Settled] = dataclasses.field(default_factory=dict)

    def open_holds(self, generation: str) -> list[PlainHold]:
        return [hold for _, hold in sorted(self.holds.get(generation, {}).items()) if hold.is_open]

    @property
    def held(self) -> int:
        return sum(hold.amount for generation in self.holds for hold in self.open_holds(generation))

    def hold(self, generation: str, sequence: int, amount: int) -> str | int:
        """The amount held, or the reason of the refusal; for a budget also whose."""
        holds = self.holds.setdefault(generation, {})
        if generation in self.closed or not all(hold.is_open for hold in holds.values()):
            return "closed"
        if sequence in holds:
            return holds[sequence].amount
        refusal = self._refusal(KEY_OF[generation], amount)
        if refusal:
            return refusal
        if amount:
            above = [budget for _, budget in self._budgets_above(KEY_OF[generation])]
            holds[sequence] = PlainHold(amount, above)
            for budget in above:
                budget.held += amount
        return amount

    def _refusal(self, key: str, amount: int) -> str:
        if key in self.revoked:
            return "key"
        if self.is_suspended:
            return "workspace"
        for name, budget in self._budgets_above(key):
            if amount > budget.limit - budget.spent - budget.held:
                return f"budget of {SCOPE_OF[name]}"
        return "" if amount <= self.posted - self.held else "credits"

    def _budgets_above(self, key: str) -> list[tuple[str, PlainBudget]]:
        return [(name, self.budgets[name]) for name in (key, "member", "workspace") if name in self.budgets]

    def settle(self, generation: str, actual: int) -> Settled:
        if generation not in self.closed:
            left = charged = min(actual, sum(hold.amount for hold in self.open_holds(generation)))
            for hold in self.open_holds(generation):
                hold.close(min(left, hold.amount))
                left -= min(left, hold.amount)
            self.posted -= charged
            self.closed[generation] = Settled(charged, actual - charged)
        return self.closed[generation]

    def expire(self, generation: str) -> int:
        """How many holds ended, free."""
        holds = self.open_holds(generation)
        for hold in holds:
            hold.close(0)
        return len(holds)


class LedgerMachine(RuleBasedStateMachine):
    """Subclasses keep the real books: what stands under "The real books" is theirs."""

    model: PlainBooks
    subjects: dict[str, Subject]
    """The keys by name."""

    # The real books

    def open(self, posted: int) -> dict[str, Subject]:
        """A workspace of this balance, its keys by name."""
        raise NotImplementedError

    def run(self, batch: Sequence[Operation]) -> list[Result]:
        raise NotImplementedError

    def move(self, amount: int) -> bool:
        """Add credit, or take it away; False if that was refused because it is held."""
        raise NotImplementedError

    def limit(self, name: str, amount: int | None) -> None:
        """Set a budget of `LIMITED`, or take it away."""
        raise NotImplementedError

    def revoke(self, key: str) -> None:
        raise NotImplementedError

    def suspend(self, *, is_suspended: bool) -> None:
        raise NotImplementedError

    def expire(self, generations: Sequence[str]) -> int:
        """End the leases of these and sweep; how many holds expired."""
        raise NotImplementedError

    def account(self) -> tuple[int, int]:
        """Posted and held."""
        raise NotImplementedError

    def budgets(self) -> dict[str, tuple[int, int, int]]:
        """Limit, spent and held by name."""
        raise NotImplementedError

    def name(self, generation: str) -> str:
        """What the generation is called in the database."""
        return generation

    # What happens to them

    @initialize(posted=amounts, limits=st.dictionaries(st.sampled_from(LIMITED), amounts, max_size=3))
    def begin(self, posted: int, limits: dict[str, int]) -> None:
        self.model = PlainBooks(posted, {})
        self.subjects = self.open(posted)
        for name, limit in limits.items():
            self.change_limit(name, limit)

    @rule(
        holds=st.lists(st.tuples(names, st.integers(1, 3), amounts), max_size=6),
        settles=st.lists(st.tuples(names, amounts), max_size=4),
        settles_come_last=st.booleans(),
    )
    def batch(self, holds: list[tuple[str, int, int]], settles: list[tuple[str, int]], *, settles_come_last: bool) -> None:
        operations: list[Operation] = [
            hold_of(self._payer(name), amount, generation=self.name(name), sequence=sequence, lease_s=LEASE_S)
            for name, sequence, amount in holds
        ]
        closings: list[Operation] = [settle_of(self._payer(name), self.name(name), actual) for name, actual in settles]
        batch = [*operations, *closings] if settles_come_last else [*closings, *operations]
        note(f"{self.model} {holds} {settles}")
        results = dict(zip(map(id, batch), self.run(batch), strict=True))
        for closing, (name, actual) in zip(closings, settles, strict=True):
            assert isinstance(closing, SettleOperation)
            assert results[id(closing)] == self.model.settle(name, actual)
        for operation, (name, sequence, amount) in zip(operations, holds, strict=True):
            assert isinstance(operation, HoldOperation)
            self._compare(results[id(operation)], self.model.hold(name, sequence, amount))

    @rule(amount=amounts.filter(bool))
    def credit(self, amount: int) -> None:
        if self.model.posted + amount <= MAX_MICROCREDITS:
            assert self.move(amount)
            self.model.posted += amount

    @rule(amount=amounts.filter(bool))
    def take_away(self, amount: int) -> None:
        is_free = amount <= self.model.posted - self.model.held
        assert self.move(-amount) == is_free
        if is_free:
            self.model.posted -= amount

    @rule(name=st.sampled_from(LIMITED), amount=st.none() | amounts)
    def change_limit(self, name: str, amount: int | None) -> None:
        """Also below what is spent and held, and away while holds are open."""
        self.limit(name, amount)
        if amount is not None:
            budget = self.model.budgets.setdefault(name, PlainBudget(amount))
            budget.limit, budget.is_lifted = amount, False
        elif name in self.model.budgets:
            budget = self.model.budgets[name]
            budget.limit, budget.is_lifted = MAX_MICROCREDITS, True

    @rule(generations=st.lists(names, min_size=1, max_size=3, unique=True))
    def abandon(self, generations: list[str]) -> None:
        """What a process held when it was killed."""
        expected = sum(self.model.expire(generation) for generation in generations)
        assert self.expire([self.name(generation) for generation in generations]) == expected

    @rule(key=st.sampled_from(("two", "three")))
    def lose_key(self, key: str) -> None:
        self.revoke(key)
        self.model.revoked.add(key)

    @rule(is_suspended=st.sampled_from((True, False, False)))
    def change_state(self, *, is_suspended: bool) -> None:
        self.suspend(is_suspended=is_suspended)
        self.model.is_suspended = is_suspended

    @invariant()
    def agree(self) -> None:
        model = getattr(self, "model", None)
        if model is not None:
            assert self.account() == (model.posted, model.held)
            assert self.budgets() == {name: (b.limit, b.spent, b.held) for name, b in model.budgets.items() if not b.is_lifted}
            assert 0 <= model.held <= model.posted

    def _payer(self, generation: str) -> Subject:
        return self.subjects[KEY_OF[generation]]

    def _compare(self, result: Result, expected: str | int) -> None:
        if isinstance(expected, str):
            assert isinstance(result, HoldRefused), (result, expected)
            assert (f"budget of {result.scope}" if result.reason == "budget" else result.reason) == expected
        else:
            assert isinstance(result, Held), (result, expected)
            assert result.amount_microcredits == expected
            assert result.available_microcredits == self.model.posted - self.model.held
