"""Credit of every kind against a plain model: whatever happens in whatever order, every lot has what it should."""

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from billing.expiry import expire_credits
from billing.ledger.engines import engine_of_django
from billing.ledger.lotbook import LotBook
from billing.ledger.operations import Held
from billing.ledger.reconcile import reconcile
from billing.ledger.transfers import CreditInUse, adjust, expire, grant, top_up
from billing.models import Entry, Hold, Workspace
from billing.presets import PlanCredits, create_preset
from billing.quotas import Limits
from billing.renewals import change_plan, renew_plans
from infery_site.ids import generation_id
from tests.unit.billing.books import hold_of, open_workspace, settle_of

pytestmark = pytest.mark.django_db(transaction=True)

WHY = {"actor": "ada", "reason": "a test"}
START = datetime(2001, 1, 1, tzinfo=UTC)
END = datetime(2999, 1, 1, tzinfo=UTC)

amounts = st.one_of(st.integers(1, 60), st.sampled_from([1, 2**31, 10**12]))
plans = st.one_of(
    st.just(PlanCredits()),
    st.builds(PlanCredits, amounts),
    st.builds(PlanCredits, amounts, st.just(value=True), st.none() | st.integers(0, 60)),
)


@dataclasses.dataclass
class PlainLot:
    expires_at: datetime | None
    left: int
    taken: int = 0
    is_of_plan: bool = False

    def is_good(self, now: datetime) -> bool:
        return self.expires_at is None or self.expires_at > now

    def take(self, amount: int) -> None:
        self.left -= amount
        self.taken += amount


class PlainWallet:
    """Kept the obvious way: each charge is taken from the lots when it is settled."""

    def __init__(self, plan: PlanCredits) -> None:
        self.plan = plan
        self.renewed: datetime | None = None
        self.lots: list[PlainLot] = []
        self.requests: dict[str, tuple[datetime, int]] = {}

    @property
    def posted(self) -> int:
        return sum(lot.left for lot in self.lots)

    @property
    def held(self) -> int:
        return sum(amount for _, amount in self.requests.values())

    def pay(self, amount: int, admitted_at: datetime) -> None:
        good = [lot for lot in self.lots if lot.is_good(admitted_at)]
        for group in (good, [lot for lot in self.lots if lot not in good]):
            for lot in sorted(group, key=lambda lot: (lot.expires_at is None, lot.expires_at or START)):
                paid = min(amount, lot.left)
                lot.left -= paid
                amount -= paid
        assert amount == 0

    def free(self) -> list[int]:
        """What would be left of each lot if every running request cost all it holds."""
        before = [lot.left for lot in self.lots]
        for admitted_at, amount in sorted(self.requests.values()):
            self.pay(amount, admitted_at)
        free = [lot.left for lot in self.lots]
        for lot, left in zip(self.lots, before, strict=True):
            lot.left = left
        return free

    def expire(self, now: datetime) -> None:
        for lot, free in zip(self.lots, self.free(), strict=True):
            if not lot.is_good(now):
                lot.take(free)

    def renew(self, now: datetime) -> bool:
        """True if the credits of a month came. Months are those of the calendar: the plan began on a first."""
        month = now.replace(day=1, hour=0)
        if self.plan.monthly_microcredits is None or month == self.renewed:
            return False
        self.renewed = month
        if self.plan.max_rollover_microcredits is not None:
            excess = sum(lot.left for lot in self.lots if lot.is_of_plan and lot.is_good(now))
            excess -= self.plan.max_rollover_microcredits
            for lot, free in zip(self.lots, self.free(), strict=True):
                if lot.is_of_plan and lot.is_good(now) and excess > 0:
                    cut = min(excess, free)
                    lot.take(cut)
                    excess -= cut
        end = (month + timedelta(days=31)).replace(day=1)
        if self.plan.has_rollover:
            end = (end + timedelta(days=31)).replace(day=1)
        self.lots.append(PlainLot(end, self.plan.monthly_microcredits, is_of_plan=True))
        return True


class WalletMachine(RuleBasedStateMachine):
    """Its clock is long ago: requests are dated by it when they are admitted, and housekeeping is told the time."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.engine = engine_of_django()

    @initialize(plan=plans)
    def begin(self, plan):
        self.subject = open_workspace()
        self.workspace = Workspace.objects.get(pk=self.subject.workspace_id)
        self.now = START
        self.model = PlainWallet(plan)
        self.entries = []
        change_plan(self.workspace, create_preset("plan", Limits(), actor="ada", plan_credits=plan), START)
        self.renewed(is_expected=self.model.renew(START))

    def renewed(self, *, is_expected):
        credits = Entry.objects.filter(kind="plan", credit_account=self.subject.account_id).order_by("pk")
        new = [pk for pk in credits.values_list("pk", flat=True) if pk not in self.entries]
        assert len(new) == is_expected
        self.entries += new

    def run(self, operation):
        return self.runner.run(self.engine.run([operation]))[0]

    @rule(hours=st.integers(0, 4))
    def wait(self, hours):
        self.now += timedelta(hours=hours)

    @rule(days=st.sampled_from([1, 20, 31, 70]))
    def wait_long(self, days):
        self.now += timedelta(days=days)

    @rule(amount=amounts, lasts=st.none() | st.integers(1, 6))
    def credit(self, amount, lasts):
        expires_at = None if lasts is None else self.now + timedelta(hours=lasts)
        if expires_at is None:
            entry = top_up(self.workspace, amount, idempotency_key=generation_id(), **WHY)
        else:
            entry = grant(self.workspace, amount, idempotency_key=generation_id(), expires_at=expires_at, **WHY)
        self.entries.append(entry.pk)
        self.model.lots.append(PlainLot(expires_at, amount))

    @rule(amount=amounts)
    def correct(self, amount):
        """Long after all that can expire here has, by the clock of transfers."""
        try:
            adjust(self.workspace, -amount, idempotency_key=generation_id(), **WHY)
        except CreditInUse:
            assert amount > self.model.posted - self.model.held
        else:
            self.model.pay(amount, timezone.now())

    @rule(amount=amounts, is_all=st.booleans())
    def admit(self, amount, is_all):
        amount = (self.model.posted - self.model.held) if is_all else amount
        if not amount:
            return
        hold = hold_of(self.subject, amount)
        result = self.run(hold)
        assert isinstance(result, Held) == (amount <= self.model.posted - self.model.held)
        if isinstance(result, Held):
            Hold.objects.filter(generation=hold.generation).update(created_at=self.now)
            self.model.requests[hold.generation] = (self.now, amount)

    @precondition(lambda self: self.model.requests)
    @rule(data=st.data())
    def settle(self, data):
        generation = data.draw(st.sampled_from(sorted(self.model.requests)))
        admitted_at, held = self.model.requests.pop(generation)
        cost = data.draw(st.integers(0, held))
        self.run(settle_of(self.subject, generation, cost))
        self.model.pay(cost, admitted_at)

    @rule()
    def tidy(self):
        renew_plans(self.now)
        self.renewed(is_expected=self.model.renew(self.now))
        expire_credits(self.now)
        self.model.expire(self.now)
        assert (renew_plans(self.now), expire_credits(self.now)) == (0, 0)

    @invariant()
    def agree(self):
        if not hasattr(self, "model"):
            return
        account = self.subject.account()
        assert (account.posted_microcredits, account.held_microcredits) == (self.model.posted, self.model.held)
        assert 0 <= self.model.held <= self.model.posted
        left = {lot.id: lot.left for lot in LotBook(account, self.now).lots}
        assert [left.get(pk, 0) for pk in self.entries] == [lot.left for lot in self.model.lots]

    def teardown(self):
        if hasattr(self, "model"):
            names = Entry.objects.filter(debit_account=self.subject.account_id, kind="expiry")
            for pk, lot in zip(self.entries, self.model.lots, strict=True):
                taken = names.filter(idempotency_key__startswith=f"expiry:{pk}:")
                assert sum(taken.values_list("amount_microcredits", flat=True)) == lot.taken
            assert reconcile(workspace_id=self.workspace.pk) == []
            # What is left behind would be looked at by every pass of the examples to come.
            for generation in self.model.requests:
                self.run(settle_of(self.subject, generation, 0))
            expire(self.subject.account_id, END, actor="tests")
            Workspace.objects.filter(pk=self.workspace.pk).update(plan=None)
        self.runner.run(self.engine.close())
        self.runner.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("examples", "steps"),
    [
        pytest.param(25, 30, id="short"),
        pytest.param(1000, 50, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_every_lot_agrees_with_a_plain_model(examples, steps):
    run_state_machine_as_test(
        WalletMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )
