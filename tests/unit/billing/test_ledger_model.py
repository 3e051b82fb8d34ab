"""The ledger on its database against a plain model: whatever is asked in whatever order, the books agree."""

import asyncio
import itertools
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from billing import apikeys, workspaces
from billing.budgets import set_budget
from billing.ledger.engines import engine_of_django
from billing.ledger.reconcile import reconcile
from billing.ledger.transfers import CreditInUse, adjust, top_up
from billing.models import ApiKey, Budget, Hold, Workspace
from billing.sweeping import Sweeper, Swept
from infery_site.ids import generation_id
from tests.unit.billing.books import Subject, new_key, open_workspace
from tests.unit.billing.machine import LEASE_S, LIMITED, SCOPE_OF, LedgerMachine, names
from tests.worlds import ACTOR, make_member

pytestmark = pytest.mark.django_db(transaction=True)

# A period that never ends: a run over midnight would begin another.
PERIOD = Budget.Period.NEVER

_numbers = itertools.count(1)


class DatabaseMachine(LedgerMachine):
    """Each example opens a workspace of its own in the same database."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.engine = engine_of_django()
        self.generations = {}

    def open(self, posted):
        self.first = open_workspace(posted)
        self.workspace = Workspace.objects.get(pk=self.first.workspace_id)
        self.member = make_member(self.workspace, "developer", username=f"owner-{next(_numbers)}")
        self.keys = {name: new_key(self.workspace) for name in ("one", "two", "three")}
        ApiKey.objects.filter(workspace=self.workspace).update(owner=self.member)
        return {name: Subject(self.workspace.pk, self.first.account_id, key.pk) for name, key in self.keys.items()}

    def name(self, generation):
        return self.generations.setdefault(generation, generation_id())

    def run(self, batch):
        return self.runner.run(self.engine.run(batch)) if batch else []

    def move(self, amount):
        transfer = top_up if amount > 0 else adjust
        try:
            transfer(self.workspace, amount, idempotency_key=generation_id(), actor=ACTOR, reason="a test")
        except CreditInUse:
            return False
        return True

    def limit(self, name, amount):
        subject = self.keys.get(name) or (self.member if name == "member" else self.workspace)
        set_budget(subject, period=PERIOD, limit_microcredits=amount, actor=ACTOR)

    def revoke(self, key):
        apikeys.revoke(self.keys[key], actor=ACTOR)

    def suspend(self, *, is_suspended):
        (workspaces.suspend if is_suspended else workspaces.activate)(self.workspace, actor=ACTOR)

    def expire(self, generations):
        self.end_leases(generations)
        return Sweeper().sweep(is_forced=True).expired

    def account(self):
        account = self.first.account()
        return account.posted_microcredits, account.held_microcredits

    def budgets(self):
        ids = {name: key.pk for name, key in self.keys.items()} | {"member": self.member.pk, "workspace": self.workspace.pk}
        owners = {(SCOPE_OF[name], ids[name]): name for name in LIMITED}
        rows = Budget.objects.values_list("scope", "scope_id", "limit_microcredits", "spent_microcredits", "held_microcredits")
        return {owners[scope, number]: tuple(money) for scope, number, *money in rows if (scope, number) in owners}

    def end_leases(self, generations):
        over = timezone.now() - timedelta(seconds=1)
        Hold.objects.filter(generation__in=generations, state="open").update(lease_expires_at=over)

    @rule(generations=st.lists(names, min_size=1, max_size=3, unique=True))
    def renew(self, generations):
        """In time, if late: what is renewed before the sweep stays open."""
        named = [self.name(generation) for generation in generations]
        self.end_leases(named)
        self.runner.run(self.engine.renew(named, LEASE_S))
        assert Sweeper().sweep(is_forced=True) == Swept()

    def teardown(self):
        if hasattr(self, "model"):
            assert reconcile(workspace_id=self.workspace.pk) == []
            # Else they would expire in the middle of a later example, which is another workspace's.
            self.end_leases(Hold.objects.filter(account=self.first.account_id).values_list("generation", flat=True))
            Sweeper().sweep(is_forced=True)
        self.runner.run(self.engine.close())
        self.runner.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("examples", "steps"),
    [
        pytest.param(20, 20, id="short"),
        pytest.param(600, 40, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_the_database_agrees_with_a_plain_model(examples, steps):
    run_state_machine_as_test(
        DatabaseMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
    assert reconcile() == []
