"""Plan credits: once for each month, whatever happened meanwhile; they expire, or roll over for one month."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from structlog.testing import capture_logs

from billing.expiry import expire_credits
from billing.ledger.reconcile import reconcile
from billing.ledger.transfers import TransferError, top_up
from billing.models import AuditEvent, Entry, Hold, QuotaPreset, Workspace
from billing.presets import NO_CREDITS, PlanCredits, change_preset, create_preset, set_plan
from billing.pricing import MAX_MICROCREDITS
from billing.quotas import Limits
from billing.renewals import change_plan, next_renewal, renew_plans
from billing.workspaces import activate, create_workspace, suspend
from tests.unit.billing.books import Subject, hold_of, new_key, settle_of, with_writer
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db(transaction=True)

# In the past, so that requests of now can be dated by it.
START = datetime(2026, 1, 31, 15, 30, tzinfo=UTC)


def day(month, number):
    return datetime(2026, month, number, tzinfo=UTC)


def plan_of(amount=100, *, name="pro", **fields):
    return create_preset(name, Limits(), actor=ACTOR, plan_credits=PlanCredits(amount, **fields))


@pytest.fixture
def acme():
    return create_workspace("acme", actor=ACTOR)


def pass_at(now):
    """What housekeeping does about credit."""
    return renew_plans(now), expire_credits(now)


def acme_now(acme):
    return Workspace.objects.select_related("plan").get(pk=acme.pk)


def balance(workspace):
    workspace.account.refresh_from_db()
    return workspace.account.posted_microcredits


def given():
    """Amount and expiry of plan credits in the order in which they came."""
    return list(Entry.objects.filter(kind="plan").order_by("pk").values_list("amount_microcredits", "expires_at"))


def taken():
    return list(Entry.objects.filter(kind="expiry").order_by("pk").values_list("amount_microcredits", flat=True))


def hold(workspace, amount, now):
    """A request that was admitted then, and has not ended."""
    operation = hold_of(Subject(workspace.pk, workspace.account.pk, new_key(workspace).pk), amount)
    with_writer(lambda writer: writer.hold(operation))
    Hold.objects.filter(generation=operation.generation).update(created_at=now)
    return operation


def spend(workspace, amount, now):
    generation = hold(workspace, amount, now).generation
    subject = Subject(workspace.pk, workspace.account.pk, Hold.objects.get(generation=generation).api_key_id)
    with_writer(lambda writer: writer.settle(settle_of(subject, generation, amount)))


def test_the_first_credits_come_with_the_plan(acme):
    plan = plan_of()
    set_plan(acme, plan, actor="staff:ada", reason="contract 7")
    entry = Entry.objects.get()
    workspace = Workspace.objects.select_related("plan").get()
    assert (entry.kind, entry.amount_microcredits, entry.debit_account.kind) == ("plan", 100, "promo")
    assert entry.expires_at == workspace.plan_renews_at == next_renewal(workspace) > entry.created_at
    assert entry.idempotency_key.startswith(f"plan:{acme.public_id}:20")
    assert entry.reason.startswith("pro: 20")
    assert AuditEvent.objects.get(action="workspace.plan_set").reason == "contract 7"
    set_plan(acme, plan, actor="staff:ada")
    assert (balance(acme), reconcile()) == (100, [])


def test_each_month_gives_once_and_takes_what_is_left_of_the_last(acme):
    """From the last of January: in shorter months their last day."""
    change_plan(acme, plan_of(), START)
    ends = [day(2, 28), day(3, 31), day(4, 30), day(5, 31)]
    for number, end in enumerate(ends, 1):
        assert pass_at(end - timedelta(microseconds=1)) == (0, 0)
        spend(acme, 10 * number, end - timedelta(hours=1))
        assert pass_at(end) == (1, 1)
        assert balance(acme) == 100
        assert pass_at(end) == pass_at(end + timedelta(days=3)) == (0, 0)
    assert given() == [(100, end) for end in [*ends, day(6, 30)]]
    assert taken() == [90, 80, 70, 60]
    assert reconcile() == []


def test_a_month_that_was_used_up_ends_without_an_expiry(acme):
    change_plan(acme, plan_of(), START)
    spend(acme, 100, START)
    assert pass_at(day(2, 28)) == (1, 0)
    assert balance(acme) == 100


def test_months_without_housekeeping_are_not_made_up_for(acme):
    change_plan(acme, plan_of(), START)
    assert pass_at(day(6, 15)) == (1, 1)
    assert given() == [(100, day(2, 28)), (100, day(6, 30))]
    assert (balance(acme), next_renewal(acme_now(acme))) == (100, day(6, 30))
    assert pass_at(day(6, 30)) == (1, 1)
    assert reconcile() == []


def test_what_rolls_over_lasts_one_month_more_and_is_spent_first(acme):
    change_plan(acme, plan_of(has_rollover=True), START)
    spend(acme, 30, START)
    assert pass_at(day(2, 28)) == (1, 0)
    assert balance(acme) == 170
    spend(acme, 50, day(3, 15))
    assert pass_at(day(3, 31)) == (1, 1)
    assert (given(), taken()) == ([(100, day(3, 31)), (100, day(4, 30)), (100, day(5, 31))], [20])
    assert balance(acme) == 200
    assert reconcile() == []


def test_no_more_rolls_over_than_the_plan_says(acme):
    top_up(acme, 1000, idempotency_key="paid", actor="ada", reason="a test")
    change_plan(acme, plan_of(has_rollover=True, max_rollover_microcredits=25), START)
    spend(acme, 30, START)
    assert pass_at(day(2, 28)) == (1, 0)
    assert (taken(), balance(acme)) == ([45], 1125)
    spend(acme, 110, day(3, 15))
    assert pass_at(day(3, 31)) == (1, 0)
    assert (taken(), balance(acme)) == ([45], 1115)
    reasons = Entry.objects.filter(kind="expiry").values_list("reason", flat=True)
    assert [reason.split(": ")[1] for reason in reasons] == ["more than rolls over"]
    assert reconcile() == []


def test_what_a_request_holds_rolls_over_beyond_the_maximum(acme):
    change_plan(acme, plan_of(has_rollover=True, max_rollover_microcredits=25), START)
    hold(acme, 60, START)
    assert pass_at(day(2, 28)) == (1, 0)
    assert (taken(), balance(acme)) == ([40], 160)
    assert reconcile() == []


def test_a_suspended_workspace_gets_none_until_it_is_active_again(acme):
    change_plan(acme, plan_of(), START)
    suspend(acme, actor=ACTOR)
    assert pass_at(day(4, 2)) == (0, 1)
    assert (balance(acme), next_renewal(acme_now(acme))) == (0, None)
    activate(acme, actor=ACTOR)
    assert pass_at(day(4, 2)) == (1, 0)
    assert (balance(acme), next_renewal(acme_now(acme))) == (100, day(4, 30))


def test_a_plan_given_to_a_suspended_workspace_waits_too(acme):
    suspend(acme, actor=ACTOR)
    change_plan(acme, plan_of(), START)
    assert (balance(acme), pass_at(START)) == (0, (0, 0))
    activate(acme, actor=ACTOR)
    assert (pass_at(day(2, 3)), given()) == ((1, 0), [(100, day(3, 3))])


def test_another_plan_counts_from_the_next_renewal(acme):
    change_plan(acme, plan_of(), START)
    change_plan(acme, plan_of(300, name="max"), day(2, 10))
    assert (balance(acme), pass_at(day(2, 20))) == (100, (0, 0))
    assert pass_at(day(2, 28)) == (1, 1)
    assert balance(acme) == 300


def test_a_plan_that_is_changed_counts_from_the_next_renewal(acme):
    plan = plan_of()
    change_plan(acme, plan, START)
    change_preset(plan, "pro", Limits(), actor=ACTOR, plan_credits=PlanCredits(150))
    assert (balance(acme), pass_at(day(2, 20))) == (100, (0, 0))
    assert (pass_at(day(2, 28)), balance(acme)) == ((1, 1), 150)
    change_preset(plan, "pro", Limits(), actor=ACTOR, plan_credits=NO_CREDITS)
    assert QuotaPreset.objects.get().monthly_microcredits is None
    assert (pass_at(day(3, 31)), balance(acme), next_renewal(acme_now(acme))) == ((0, 1), 0, None)


def test_a_plan_that_comes_back_in_the_same_month_gives_nothing_twice(acme):
    plan = plan_of()
    change_plan(acme, plan, START)
    for _ in range(2):
        change_plan(acme, None, day(2, 3))
        assert next_renewal(acme_now(acme)) is None
        change_plan(acme, plan, day(2, 3))
    assert (balance(acme), pass_at(day(2, 27))) == (100, (0, 0))
    assert (pass_at(day(2, 28)), given()[1:]) == ((1, 1), [(100, day(3, 31))])


def test_after_a_time_without_a_plan_a_new_first_month_begins(acme):
    change_plan(acme, plan_of(), START)
    change_plan(acme, None, day(2, 3))
    assert (pass_at(day(2, 28)), balance(acme)) == ((0, 1), 0)
    change_plan(acme, plan_of(name="again"), day(3, 10))
    assert given() == [(100, day(2, 28)), (100, day(4, 10))]
    assert (balance(acme), next_renewal(acme_now(acme))) == (100, day(4, 10))
    assert reconcile() == []


def test_a_plan_without_credits_gives_none_until_it_has_some(acme):
    plan = create_preset("free", Limits(), actor=ACTOR)
    change_plan(acme, plan, START)
    assert (pass_at(START), given()) == ((0, 0), [])
    change_preset(plan, "free", Limits(), actor=ACTOR, plan_credits=PlanCredits(5))
    assert (pass_at(day(2, 10)), given()) == ((1, 0), [(5, day(3, 10))])


def test_passes_side_by_side_give_once(acme):
    rival = create_workspace("rival", actor=ACTOR)
    plan = plan_of()
    for workspace in (acme, rival):
        change_plan(workspace, plan, START)

    def one_pass(_):
        try:
            return pass_at(day(2, 28))
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        passes = list(threads.map(one_pass, range(8)))
    assert [sum(counts) for counts in zip(*passes, strict=True)] == [2, 2]
    assert (balance(acme), balance(rival), len(given())) == (100, 100, 4)
    assert reconcile() == []


def test_credits_that_cannot_be_kept_are_not_given_and_hold_up_nobody(acme):
    rival = create_workspace("rival", actor=ACTOR)
    top_up(acme, MAX_MICROCREDITS, idempotency_key="paid", actor="ada", reason="a test")
    plan = plan_of()
    with pytest.raises(TransferError, match="cannot be kept"):
        set_plan(acme, plan, actor=ACTOR)
    assert acme_now(acme).plan is None
    Workspace.objects.update(plan=plan)
    with capture_logs() as logs:
        assert renew_plans(START) == 1
    assert [entry["workspace"] for entry in logs if entry["log_level"] == "error"] == [acme.pk]
    assert balance(rival) == 100
    assert reconcile() == []


@pytest.mark.parametrize(
    "credits",
    [
        PlanCredits(0),
        PlanCredits(-1),
        PlanCredits(MAX_MICROCREDITS + 1),
        PlanCredits(None, has_rollover=True),
        PlanCredits(1, max_rollover_microcredits=1),
        PlanCredits(1, has_rollover=True, max_rollover_microcredits=-1),
        PlanCredits(1, has_rollover=True, max_rollover_microcredits=MAX_MICROCREDITS + 1),
    ],
    ids=str,
)
def test_credits_that_make_no_sense_make_no_plan(credits):
    with pytest.raises(ValidationError):
        create_preset("pro", Limits(), actor=ACTOR, plan_credits=credits)
    plan = create_preset("pro", Limits(), actor=ACTOR)
    with pytest.raises(ValidationError):
        change_preset(plan, "pro", Limits(), actor=ACTOR, plan_credits=credits)
    plan.refresh_from_db()
    assert (plan.monthly_microcredits, plan.has_rollover) == (NO_CREDITS.monthly_microcredits, False)
