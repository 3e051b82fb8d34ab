"""Budgets: who sets which, and that the ledger keeps each of them in the transaction of the hold."""

import asyncio
import contextlib
import threading

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, connections
from django.utils import timezone

from billing.apikeys import Creator, KeyChanges, Overlap, mint, roll, update_key
from billing.budgets import follow_all, list_budgets, set_budget
from billing.errors import BudgetExceeded, KeyNotActive, KeyTooBroad, LimitOfStaff
from billing.ledger.reconcile import reconcile
from billing.members import change_role
from billing.models import ApiKey, AuditEvent, Budget, Membership
from billing.permissions import INFERENCE_SCOPES
from billing.presets import change_preset, create_preset, set_plan
from billing.quotas import Limits
from billing.reports.credits import get_key_spend
from billing.sweeping import Sweeper
from tests.unit.billing.books import Subject, admit, hold_of, settle_of, with_writer
from tests.worlds import ACTOR, make_member

CREDIT = 1_000_000
MONTH, DAY = Budget.Period.MONTH, Budget.Period.DAY


def subject_of(key):
    return Subject(key.workspace_id, key.workspace.account.pk, key.pk)


def limits():
    return dict(Budget.objects.values_list("period", "limit_microcredits"))


# Setting


@pytest.mark.django_db
def test_a_budget_is_one_row_and_keeps_what_was_spent(acme):
    budget = set_budget(acme.workspace, period=DAY, limit_microcredits=5, actor="user:ada", is_bound=True)
    Budget.objects.update(spent_microcredits=3, held_microcredits=1)
    again = set_budget(acme.workspace, period=DAY, limit_microcredits=9, actor="user:ada", is_bound=True)
    assert (again.pk, again.public_id) == (budget.pk, budget.public_id)
    assert (again.limit_microcredits, again.spent_microcredits, again.held_microcredits) == (9, 3, 1)
    assert set_budget(acme.workspace, period=DAY, limit_microcredits=None, actor="user:ada", is_bound=True) is None
    assert not Budget.objects.exists()
    assert list_budgets(acme.workspace).count() == 0
    events = AuditEvent.objects.filter(action="budget.set", actor="user:ada", target=acme.workspace.public_id)
    assert [event.details["limit_microcredits"] for event in events.order_by("pk")] == [5, 9, None]


@pytest.mark.django_db
@pytest.mark.parametrize("limit", [-1, 9 * 10**15 + 1])
def test_an_amount_that_cannot_be_is_no_budget(acme, limit):
    with pytest.raises(ValidationError):
        set_budget(acme.key, period=MONTH, limit_microcredits=limit, actor=ACTOR)
    assert not Budget.objects.exists()


@pytest.mark.django_db
def test_the_monthly_budget_of_a_key_is_never_above_what_binds_it(acme):
    set_plan(acme.workspace, create_preset("plan", Limits(max_budget_monthly_microcredits=100), actor=ACTOR), actor=ACTOR)
    assert set_budget(acme.key, period=MONTH, limit_microcredits=500, actor=ACTOR).limit_microcredits == 100
    assert set_budget(acme.key, period=MONTH, limit_microcredits=50, actor=ACTOR).limit_microcredits == 50
    assert set_budget(acme.key, period=DAY, limit_microcredits=500, actor=ACTOR).limit_microcredits == 500
    assert set_budget(acme.key, period=MONTH, limit_microcredits=None, actor=ACTOR).limit_microcredits == 100
    assert limits() == {"month": 100, "day": 500}


@pytest.mark.django_db
def test_the_platform_s_budget_reaches_the_keys_that_are_there(acme, rival, settings):
    settings.PLATFORM_LIMITS = {"max_budget_monthly_microcredits": 7}
    assert not Budget.objects.exists()
    follow_all()
    assert set(Budget.objects.values_list("scope", "scope_id", "limit_microcredits")) == {
        ("key", acme.key.pk, 7),
        ("key", rival.key.pk, 7),
    }


@pytest.mark.django_db
def test_a_list_has_the_workspace_s_own_budgets(acme, rival):
    member = make_member(acme.workspace, "developer")
    owned, _ = mint(acme.workspace, "key", actor=ACTOR)
    ApiKey.objects.filter(pk=owned.pk).update(owner=member)
    ours = [set_budget(row, period=DAY, limit_microcredits=1, actor=ACTOR) for row in (acme.workspace, acme.key, member, owned)]
    for row in (rival.workspace, rival.key, make_member(rival.workspace, "developer")):
        set_budget(row, period=DAY, limit_microcredits=1, actor=ACTOR)
    assert set(list_budgets(acme.workspace)) == set(ours)
    assert set(list_budgets(acme.workspace, of_member=member)) == set(ours[2:])


# Keeping


@pytest.fixture
def member(transactional_db, acme):
    return make_member(acme.workspace, "developer")


@pytest.fixture
def keys(acme, member):
    """Two keys of one member, and one of nobody."""
    owned = [mint(acme.workspace, name, actor=ACTOR)[0] for name in ("first", "second")]
    ApiKey.objects.filter(pk__in=[key.pk for key in owned]).update(owner=member)
    return [*owned, acme.key]


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "one by one"])
def test_a_member_s_budget_is_shared_by_his_keys(member, keys, together):
    set_budget(member, period=MONTH, limit_microcredits=10, actor=ACTOR)
    first, second, nobodys = (subject_of(key) for key in keys)

    async def scenario(writer):
        if together:
            answers = await asyncio.gather(*(admit(writer, key, [1] * 8) for key in (first, second)))
        else:
            answers = [await admit(writer, key, [1] * 8) for key in (first, second)]
        with pytest.raises(BudgetExceeded) as refusal:
            await writer.hold(hold_of(second, 1))
        await writer.hold(hold_of(nobodys, 1))
        [generation, *rest] = [generation for found in answers for generation in found]
        await writer.settle(settle_of(first if generation in answers[0] else second, generation, 1))
        return refusal.value, len(rest) + 1

    refusal, admitted = with_writer(scenario)
    assert admitted == 10
    assert (refusal.status, refusal.code) == (402, "key_budget_exceeded")
    assert "this member" in refusal.message
    budget = Budget.objects.get(scope="member")
    assert (budget.spent_microcredits, budget.held_microcredits) == (1, 9)
    assert [violation for violation in reconcile() if "budget" in violation.check] == []
    assert reconcile(workspace_id=member.workspace_id) == []


def test_a_key_spends_from_all_budgets_above_it(acme, member, keys):
    first = subject_of(keys[0])
    for row, limit in ((keys[0], 30), (member, 20), (acme.workspace, 25)):
        set_budget(row, period=MONTH, limit_microcredits=limit, actor=ACTOR)

    async def scenario(writer):
        admitted = await admit(writer, first, [21, 20])
        await writer.settle(settle_of(first, admitted[0], 12))
        return len(admitted)

    assert with_writer(scenario) == 1
    assert set(Budget.objects.values_list("scope", "spent_microcredits", "held_microcredits")) == {
        ("key", 12, 0),
        ("member", 12, 0),
        ("workspace", 12, 0),
    }


@pytest.mark.parametrize("period", [MONTH, DAY])
def test_a_limit_that_is_taken_away_and_set_again_begins_nothing_anew(transactional_db, acme, period):
    """What was spent before counts, and what was spent meanwhile."""
    set_budget(acme.key, period=period, limit_microcredits=10, actor=ACTOR)
    subject = subject_of(acme.key)
    with_writer(lambda writer: spend(writer, subject, 4))
    set_budget(acme.key, period=period, limit_microcredits=None, actor=ACTOR)
    with_writer(lambda writer: spend(writer, subject, 20))
    assert get_key_spend(acme.workspace.pk, acme.key.pk, timezone.now()).budgets == ()
    set_budget(acme.key, period=period, limit_microcredits=30, actor=ACTOR)
    assert len(with_writer(lambda writer: admit(writer, subject, [3, 3, 3]))) == 2
    assert (Budget.objects.get().spent_microcredits, Budget.every.count()) == (24, 1)
    assert reconcile() == []


def test_a_hold_that_was_open_when_its_limit_was_taken_away_is_swept_out_of_it(transactional_db, acme):
    set_budget(acme.key, period=DAY, limit_microcredits=10, actor=ACTOR)
    with_writer(lambda writer: writer.hold(hold_of(subject_of(acme.key), 4, lease_s=-1)))
    set_budget(acme.key, period=DAY, limit_microcredits=None, actor=ACTOR)
    assert Sweeper().sweep(is_forced=True).expired == 1
    assert Budget.every.get().held_microcredits == 0
    assert reconcile() == []


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "one by one"])
def test_a_rolled_key_spends_what_is_left_and_both_spend_it_together(transactional_db, acme, together):
    set_budget(acme.key, period=MONTH, limit_microcredits=10, actor=ACTOR)
    old = subject_of(acme.key)
    with_writer(lambda writer: spend(writer, old, 4))
    rolled, _ = roll(acme.key, overlap=Overlap.DAY, actor=ACTOR)
    new = subject_of(rolled)

    async def scenario(writer):
        if together:
            of_old, of_new = await asyncio.gather(*(admit(writer, key, [1] * 5) for key in (old, new)))
        else:
            of_new, of_old = [await admit(writer, key, [1] * 5) for key in (new, old)]
        for key in (old, new):
            with pytest.raises(BudgetExceeded):
                await writer.hold(hold_of(key, 1))
        for key, generations in ((old, of_old), (new, of_new)):
            for generation in generations:
                await writer.settle(settle_of(key, generation, 1))
        return len(of_old) + len(of_new)

    assert with_writer(scenario) == 6
    budget = Budget.objects.get()
    assert (budget.spent_microcredits, budget.held_microcredits) == (10, 0)
    now = timezone.now()
    spends = [get_key_spend(acme.workspace.pk, key.pk, now).budgets for key in (acme.key, rolled)]
    assert spends[0] == spends[1]
    assert spends[0][0].available_microcredits == 0
    assert reconcile() == []


def test_to_roll_a_key_again_and_again_gives_no_credit(transactional_db, acme):
    set_budget(acme.key, period=DAY, limit_microcredits=10, actor=ACTOR)
    key, admitted = acme.key, 0
    for _ in range(4):
        subject = subject_of(key)
        admitted += len(with_writer(lambda writer, subject=subject: admit(writer, subject, [3] * 2)))
        key, _ = roll(key, overlap=Overlap.NOW, actor=ACTOR)
    assert admitted == 3
    assert Budget.objects.get().held_microcredits == 9
    assert reconcile() == []


async def spend(writer, subject, amount):
    hold = hold_of(subject, amount)
    await writer.hold(hold)
    await writer.settle(settle_of(subject, hold.generation, amount))


def test_keys_of_a_family_are_changed_at_once(transactional_db, acme):
    """Each change writes both rows; they take them in one order."""
    rolled, _ = roll(acme.key, overlap=Overlap.DAY, actor=ACTOR)

    def change(key, limit):
        for number in range(8):
            update_key(key, KeyChanges(max_budget_monthly_microcredits=limit + number), actor=ACTOR)

    run_at_once(lambda: change(acme.key, 10), lambda: change(rolled, 100), lambda: change(rolled, 1000))
    limits = set(ApiKey.objects.values_list("max_budget_monthly_microcredits", flat=True))
    assert limits == set(Budget.objects.values_list("limit_microcredits", flat=True))
    assert len(limits) == 1


@pytest.mark.parametrize("turn", range(3))
def test_of_two_changes_at_once_the_later_one_sees_both(acme, member, turn):
    """A plan is lowered while a key asks for more: whoever comes last writes the tightest of what both wrote."""
    plan = create_preset("plan", Limits(max_budget_monthly_microcredits=100), actor=ACTOR)
    set_plan(acme.workspace, plan, actor=ACTOR)
    ready = threading.Barrier(3)

    def lower():
        ready.wait()
        change_preset(plan, "plan", Limits(max_budget_monthly_microcredits=10 + turn), actor=ACTOR)

    def ask():
        ready.wait()
        update_key(acme.key, KeyChanges(max_budget_monthly_microcredits=50), actor=ACTOR)

    def make():
        ready.wait()
        mint(acme.workspace, "another", actor=ACTOR)

    run_at_once(lower, ask, make)
    assert ApiKey.objects.filter(workspace=acme.workspace).count() == 2
    assert list(Budget.objects.values_list("limit_microcredits", flat=True)) == [10 + turn] * 2


def run_at_once(*acts):
    failures = []

    def run(act):
        try:
            act()
        except Exception as error:  # noqa: BLE001 - told to the test
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[act]) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_of_staff_and_a_member_at_once_staff_are_right(transactional_db, acme):
    """Also where there is no budget yet."""

    def by_staff():
        set_budget(acme.workspace, period=DAY, limit_microcredits=0, actor="staff:ada")

    def by_member():
        with contextlib.suppress(LimitOfStaff):
            set_budget(acme.workspace, period=DAY, limit_microcredits=100, actor="user:eve", is_bound=True)

    for _ in range(10):
        run_at_once(by_staff, by_member, by_member)
        assert list(Budget.objects.values_list("limit_microcredits", "ceiling_microcredits")) == [(0, 0)]
        Budget.every.all().delete()


def test_a_key_is_changed_while_its_owner_loses_it(transactional_db, acme):
    """Who changes a key and who changes a role take workspace and key in one order."""
    owners = [make_member(acme.workspace, "developer", username=f"ada-{number}") for number in range(12)]
    keys = [mint(acme.workspace, "key", actor=ACTOR, creator=Creator(INFERENCE_SCOPES, None, owner))[0] for owner in owners]
    ready = threading.Barrier(2, timeout=30)

    def change():
        for number, key in enumerate(keys):
            ready.wait()
            with contextlib.suppress(KeyNotActive, KeyTooBroad):
                update_key(key, KeyChanges(max_budget_monthly_microcredits=number + 1), actor=ACTOR)

    def demote():
        for owner in owners:
            ready.wait()
            change_role(owner, Membership.Role.VIEWER, actor=ACTOR)

    run_at_once(change, demote)
    assert not ApiKey.objects.filter(owner__in=owners, revoked_at__isnull=True).exists()


def test_requests_go_on_while_limits_are_changed(acme, member, keys):
    """Whoever changes limits locks rows that holds refer to, and must not keep the ledger waiting."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    first = subject_of(keys[0])
    stop = threading.Event()

    def change():
        limit = 10**9
        while not stop.is_set():
            limit += 1
            for key in keys:
                update_key(key, KeyChanges(max_budget_monthly_microcredits=limit), actor=ACTOR)

    async def scenario(writer):
        try:
            for _ in range(40):
                for generation in await admit(writer, first, [1] * 5):
                    await writer.settle(settle_of(first, generation, 1))
        finally:
            stop.set()

    run_at_once(change, lambda: with_writer(scenario))
    assert Budget.objects.get(scope="key", scope_id=keys[0].pk).held_microcredits == 0
