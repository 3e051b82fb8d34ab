"""The chores, their election, the loop of a serving process, and the command."""

import asyncio
import io
import threading
import time
from datetime import UTC, timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from billing.election import elected
from billing.housekeeping import Housekeeper, Tidied, tidy
from billing.ledger.reconcile import reconcile
from billing.ledger.transfers import grant
from billing.models import Hold, IdempotentReply, Notice, RequestTrace, UsageDay, UsageRecord, Workspace
from billing.presets import PlanCredits, create_preset
from billing.quotas import Limits
from billing.renewals import change_plan
from billing.sweeping import Sweeper
from billing.workspaces import keep_traces
from chat.chores import CHORES, new_watch
from chat.models import ProviderState
from files.models import FileUsage
from tests.records import add_record
from tests.unit.billing.books import admit, open_workspace, with_writer
from tests.unit.billing.clocks import Clocks
from tests.unit.billing.engines import locked_account

pytestmark = pytest.mark.django_db(transaction=True)


def abandoned(subject, count):
    """Holds that nobody renews any more."""
    with_writer(lambda writer: admit(writer, subject, [1] * count))
    Hold.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))


def keep_reply(workspace_id, hours):
    """A stored reply that was first asked for so many hours ago."""
    now = timezone.now()
    IdempotentReply.objects.create(
        workspace=Workspace.objects.get(pk=workspace_id),
        key_digest=f"{hours}",
        body_digest="",
        lease_token="",
        lease_expires_at=now,
        is_complete=True,
        created_at=now - timedelta(hours=hours),
    )


def keep_trace(days):
    RequestTrace.objects.create(generation=f"chatcmpl-{days}", created_at=timezone.now() - timedelta(days=days))


def give_for_a_day(subject, *, days_ago):
    """A grant of 7 microcredits that expired a day later."""
    workspace = Workspace.objects.get(pk=subject.workspace_id)
    expires_at = timezone.now() - timedelta(days=days_ago - 1)
    grant(workspace, 7, idempotency_key=f"{days_ago} days ago", actor="ada", reason="a test", expires_at=expires_at)


@pytest.fixture
def elsewhere():
    """Another process is at it, for as long as the event is not set."""
    is_elected, leave = threading.Event(), threading.Event()

    def work():
        try:
            with elected("housekeeping") as is_mine:
                assert is_mine
                is_elected.set()
                leave.wait(30)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert is_elected.wait(10)
    yield lambda: (leave.set(), thread.join())
    leave.set()
    thread.join()


def passes(clocks, within_s=3600):
    """Passes until so much time is over: four a minute at first and in the end, and one in two minutes between."""
    for at_s in range(0, within_s, 15):
        if at_s % 120 == 0 or not 120 < at_s < within_s - 120:
            yield at_s
        clocks.wait(15)


def run(*arguments):
    output = io.StringIO()
    call_command("housekeeping", *arguments, stdout=output)
    return output.getvalue()


def test_a_pass_does_every_chore():
    acme = open_workspace(100)
    abandoned(acme, 3)
    for hours in (1, 23, 25, 90):
        keep_reply(acme.workspace_id, hours)
    for days in (1, 29, 31, 400):
        keep_trace(days)
    give_for_a_day(acme, days_ago=2)
    give_for_a_day(acme, days_ago=0)
    plan = create_preset("pro", Limits(), actor="ada", plan_credits=PlanCredits(9))
    change_plan(Workspace.objects.get(), plan, timezone.now() - timedelta(days=40))
    sweeper = Clocks().watching_sweeper()
    assert tidy(sweeper) == Tidied(is_elected=True, expired_holds=3, renewals=1, expiries=2, purged_replies=2, purged_traces=2)
    assert acme.account().posted_microcredits == 116
    assert sorted(IdempotentReply.objects.values_list("key_digest", flat=True)) == ["1", "23"]
    assert sorted(RequestTrace.objects.values_list("generation", flat=True)) == ["chatcmpl-1", "chatcmpl-29"]
    assert reconcile() == []


def test_a_pass_purges_a_bounded_number_of_traces():
    long_ago = timezone.now() - timedelta(days=31)
    RequestTrace.objects.bulk_create(RequestTrace(generation=f"chatcmpl-{n}", created_at=long_ago) for n in range(10_003))
    assert tidy(Sweeper()).purged_traces == 10_000
    assert tidy(Sweeper()).purged_traces == 3


def test_a_workspace_that_keeps_less_loses_its_own_traces_sooner(acme, rival):
    now = timezone.now()
    for world in (acme, rival):
        for days in (0, 6, 8, 20):
            generation, at = f"chatcmpl-{world.workspace.name}-{days}", now - timedelta(days=days)
            common = {"request_id": "l", "workspace": world.workspace, "api_key": world.key, "status": 200, "end_state": "done"}
            UsageRecord.objects.create(**common, generation=generation, created_at=at)
            RequestTrace.objects.create(generation=generation, created_at=at)
    keep_traces(acme.workspace, 7, actor="test")
    assert tidy(Sweeper()).purged_traces == 2
    assert tidy(Sweeper()).purged_traces == 0
    left = {f"chatcmpl-{name}-{days}" for name, days in [("Acme", 0), ("Acme", 6), *(("Rival", d) for d in (0, 6, 8, 20))]}
    assert set(RequestTrace.objects.values_list("generation", flat=True)) == left
    keep_traces(acme.workspace, 1, actor="test")
    assert tidy(Sweeper()).purged_traces == 1
    assert UsageRecord.objects.count() == 8


def test_a_chore_that_fails_keeps_no_other_from_its_turn():
    acme = open_workspace(100)
    abandoned(acme, 1)
    keep_trace(31)
    with connection.schema_editor() as editor:
        editor.alter_db_table(IdempotentReply, "billing_idempotentreply", "billing_elsewhere")
    try:
        tidied = tidy(Sweeper(), is_forced=True)
        assert tidied == Tidied(is_elected=True, expired_holds=1, purged_traces=1, failed=("idempotent replies",))
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(IdempotentReply, "billing_elsewhere", "billing_idempotentreply")


def test_chores_of_other_apps_are_done_as_well():
    def fail():
        raise OSError("the store is away")

    done = []
    tidied = tidy(Sweeper(), {"crumbs": lambda: 7, "files": fail, "leaves": lambda: done.append("leaves") or 0})
    assert tidied == Tidied(is_elected=True, purged=(("crumbs", 7), ("files", 0), ("leaves", 0)), failed=("files",))
    assert done == ["leaves"]


def test_one_of_two_works(elsewhere):
    acme = open_workspace(100)
    abandoned(acme, 1)
    sweeper = Clocks().watching_sweeper()
    assert tidy(sweeper) == Tidied()
    elsewhere()
    assert tidy(sweeper) == Tidied(is_elected=True, expired_holds=1)
    assert tidy(sweeper) == Tidied(is_elected=True)


def test_a_sweep_that_waits_keeps_no_other_chore_from_its_turn():
    abandoned(open_workspace(100), 1)
    keep_trace(31)
    assert tidy(Sweeper()) == Tidied(is_elected=True, is_waiting=True, purged_traces=1)


@pytest.mark.slow
def test_credit_is_given_and_taken_by_a_clock_that_runs_evenly():
    """What a wrong clock booked no later pass puts right. So one that ran ahead is given an hour to be set."""
    acme, clocks = open_workspace(100), Clocks()
    give_for_a_day(acme, days_ago=-1)
    plan = create_preset("pro", Limits(), actor="ada", plan_credits=PlanCredits(9))
    change_plan(Workspace.objects.get(), plan, timezone.now())
    waits, idle = Tidied(is_elected=True, is_waiting=True), Tidied(is_elected=True)
    sweeper = clocks.watching_sweeper()
    assert tidy(sweeper) == idle
    clocks.wait(15)
    clocks.jump(40 * 86_400)
    for at_s in passes(clocks):
        assert tidy(sweeper) == waits, at_s
    assert acme.account().posted_microcredits == 116
    clocks.jump(-40 * 86_400)
    assert (tidy(sweeper), tidy(sweeper)) == (idle, idle)
    clocks.jump(40 * 86_400)
    for at_s in passes(clocks):
        assert tidy(sweeper) == waits, at_s
    clocks.wait(15)
    assert tidy(sweeper) == Tidied(is_elected=True, renewals=1, expiries=2)
    assert reconcile() == []


@pytest.mark.parametrize("is_databases", [False, True], ids=["that-of-the-host", "and-that-of-the-database"])
def test_no_day_is_added_up_by_a_clock_that_is_ahead(acme, monkeypatch, is_databases):
    """What is recorded in the rest of a day that was added up would never be counted."""
    clocks, ahead = Clocks(), timedelta(days=1, hours=2)
    now, sweeper = clocks.now(), clocks.watching_sweeper()
    today = UsageDay.objects.filter(day=now.astimezone(UTC).date())
    add_record(acme, created_at=now)
    clocks.jump(ahead.total_seconds() if is_databases else 0)
    with monkeypatch.context() as host:
        host.setattr(timezone, "now", lambda: now + ahead)
        tidy(sweeper)
    assert not today.exists()
    clocks.jump(-ahead.total_seconds() if is_databases else 0)
    add_record(acme, created_at=now)
    clocks.wait(ahead.total_seconds())
    tidy(sweeper)
    assert today.get().requests == 2


def test_a_new_process_watches_the_clock_before_it_books_credit():
    acme, clocks = open_workspace(100), Clocks()
    give_for_a_day(acme, days_ago=2)
    sweeper = clocks.sweeper()
    for _ in range(4):
        assert tidy(sweeper) == Tidied(is_elected=True, is_waiting=True)
        clocks.wait(15)
    assert tidy(sweeper) == Tidied(is_elected=True, expiries=1)


def test_a_new_process_of_a_watched_machine_books_credit_at_once():
    acme, clocks = open_workspace(100), Clocks()
    tidy(clocks.watching_sweeper())
    give_for_a_day(acme, days_ago=2)
    clocks.wait(3 * 86_400)
    assert tidy(clocks.sweeper()) == Tidied(is_elected=True, expiries=1)


@pytest.mark.slow
def test_what_is_left_of_the_hour_is_waited_for_by_a_new_process():
    acme, clocks = open_workspace(100), Clocks()
    give_for_a_day(acme, days_ago=-1)
    tidy(clocks.watching_sweeper())
    clocks.jump(40 * 86_400)
    for at_s in passes(clocks):
        clocks.boot = f"start {at_s // 1500}"
        assert tidy(clocks.sweeper()) == Tidied(is_elected=True, is_waiting=True), at_s
    assert acme.account().posted_microcredits == 107
    clocks.wait(15)
    assert tidy(clocks.sweeper()) == Tidied(is_elected=True, expiries=1)


@pytest.mark.slow
@pytest.mark.parametrize("is_watched", [True, False], ids=["watched", "never-watched"])
@pytest.mark.parametrize(("unwatched_s", "waits_s"), [(299, 60), (40 * 86_400, 3600)])
def test_a_clock_far_ahead_at_a_start_of_the_machine_is_given_an_hour_to_be_set(is_watched, unwatched_s, waits_s):
    """Nothing tells whether it ran ahead, or the machine stood still for so long."""
    acme, clocks = open_workspace(100), Clocks()
    give_for_a_day(acme, days_ago=2)
    if is_watched:
        clocks.watching_sweeper().sweep()
    clocks.boot = "another"
    clocks.jump(unwatched_s)
    sweeper = clocks.sweeper()
    for at_s in passes(clocks, waits_s):
        assert tidy(sweeper) == Tidied(is_elected=True, is_waiting=True), at_s
    assert tidy(sweeper) == Tidied(is_elected=True, expiries=1)


def test_a_pass_that_failed_hides_no_jump_of_the_clock():
    acme, clocks = open_workspace(100), Clocks()
    give_for_a_day(acme, days_ago=-1)
    sweeper = clocks.watching_sweeper()
    clocks.failure = OSError("no database")
    assert tidy(sweeper) == Tidied(is_elected=True, failed=("sweep",))
    clocks.failure = None
    clocks.jump(3 * 86_400)
    assert tidy(sweeper) == Tidied(is_elected=True, is_waiting=True)
    assert acme.account().posted_microcredits == 107


@pytest.mark.slow
def test_what_somebody_keeps_locked_holds_up_nothing_else():
    """As whoever forgot to end a transaction does: the pass must not wait for him with the election in its hands."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock, for which nobody waits longer than its timeout")
    acme, rival = open_workspace(100), open_workspace(100, name="rival")
    abandoned(rival, 2)
    abandoned(acme, 3)
    keep_trace(31)
    sweeper = Clocks().watching_sweeper()
    with locked_account(acme.account_id):
        tidied = tidy(sweeper)
    assert tidied == Tidied(is_elected=True, expired_holds=2, purged_traces=1, failed=("sweep",))
    assert (acme.account().held_microcredits, rival.account().held_microcredits) == (3, 0)
    assert tidy(sweeper) == Tidied(is_elected=True, expired_holds=3), "and the watch goes on"
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)
    assert reconcile() == []


def test_elections_of_different_names_do_not_meet(elsewhere):
    with elected("something else") as is_elected:
        assert is_elected


def test_a_serving_process_does_it_from_time_to_time(settings):
    settings.SWEEP_EVERY_S, settings.LEASE_RENEW_S = 0.1, 0.2
    acme = open_workspace(100)
    abandoned(acme, 2)
    with_housekeeper(lambda: acme.account().held_microcredits == 0)
    assert reconcile() == []


def with_housekeeper(is_done, chores=CHORES):
    """Runs the loop until `is_done`, asked in a thread of its own."""

    def ask():
        try:
            return is_done()
        finally:
            connection.close()

    async def main():
        housekeeper = Housekeeper(chores, new_watch(), stop_within_s=0.5)
        await housekeeper.start()
        deadline = time.monotonic() + 10
        while not await asyncio.to_thread(ask):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        await housekeeper.stop()
        await housekeeper.stop()

    asyncio.run(main())


def test_a_store_that_hangs_delays_neither_the_sweep_nor_the_end_of_the_process(settings):
    settings.SWEEP_EVERY_S, settings.LEASE_RENEW_S = 0.05, 0.2
    acme = open_workspace(100)
    is_at_it, go_on = threading.Event(), threading.Event()

    def hang():
        is_at_it.set()
        go_on.wait(30)
        return 0

    def is_done():
        if is_at_it.is_set() and not admitted:
            abandoned(acme, 2)
            admitted.append(acme)
        return admitted and acme.account().held_microcredits == 0

    admitted = []
    begun_s = time.monotonic()
    with_housekeeper(is_done, {"files": hang})
    assert time.monotonic() - begun_s < 5
    [thread] = [thread for thread in threading.enumerate() if thread.name == "purging"]
    go_on.set()
    thread.join(10)


def test_the_loop_takes_over_from_a_process_that_ended(settings, elsewhere):
    settings.SWEEP_EVERY_S, settings.LEASE_RENEW_S = 0.05, 0.2
    acme = open_workspace(100)
    abandoned(acme, 1)
    threading.Timer(0.3, elsewhere).start()
    with_housekeeper(lambda: acme.account().held_microcredits == 0)


def test_the_command_does_one_pass_once_it_has_watched_the_clock(settings):
    settings.SWEEP_EVERY_S, settings.LEASE_RENEW_S = 0.1, 0.3
    acme = open_workspace(100)
    abandoned(acme, 30)
    keep_trace(31)
    begun_s = time.monotonic()
    assert (
        run("--once")
        == "30 holds expired, 0 renewals and 0 expiries of credit booked, 0 idempotent replies, 1 request traces, 0 provider states, 0 files and 0 conversions purged.\n"
    )
    assert time.monotonic() - begun_s >= 0.6
    assert reconcile() == []


def test_the_command_books_credit_once_it_has_watched_the_clock(settings):
    settings.SWEEP_EVERY_S, settings.LEASE_RENEW_S = 0.1, 0.3
    give_for_a_day(open_workspace(100), days_ago=2)
    assert run("--once").startswith("0 holds expired, 0 renewals and 1 expiries of credit booked")


def test_the_command_does_not_watch_where_nothing_is_past_its_time():
    acme = open_workspace(100)
    keep_trace(31)
    with_writer(lambda writer: admit(writer, acme, [1]))
    assert (
        run("--once")
        == "0 holds expired, 0 renewals and 0 expiries of credit booked, 0 idempotent replies, 1 request traces, 0 provider states, 0 files and 0 conversions purged.\n"
    )


def keep_state(digest, *, hours):
    acme = Workspace.objects.get()
    made_at = timezone.now() - timedelta(hours=hours)
    ProviderState.objects.create(workspace=acme, call_digest=digest, maker="gemini/m", data_encrypted=b"", created_at=made_at)


def test_the_command_purges_what_other_apps_keep():
    open_workspace(100)
    keep_state("old", hours=25)
    keep_state("young", hours=23)
    assert run("--once").endswith("0 request traces, 1 provider states, 0 files and 0 conversions purged.\n")
    assert ProviderState.objects.get().call_digest == "young"


def test_a_serving_process_purges_what_other_apps_keep(settings):
    settings.SWEEP_EVERY_S, settings.LEASE_RENEW_S = 0.05, 0.2
    open_workspace(100)
    keep_state("old", hours=25)
    with_housekeeper(lambda: not ProviderState.objects.exists())


def fill(settings):
    """A workspace whose files are near their quota."""
    settings.FILES_PER_WORKSPACE = 10
    FileUsage.objects.create(workspace_id=open_workspace(100).workspace_id, files=9, stored_bytes=9)


def test_the_command_tells_what_other_apps_know(settings):
    fill(settings)
    run("--once")
    run("--once")
    assert Notice.objects.get().kind == "quota.reached"


def test_a_serving_process_tells_what_other_apps_know(settings):
    settings.SWEEP_EVERY_S, settings.LEASE_RENEW_S = 0.05, 0.2
    fill(settings)
    with_housekeeper(lambda: Notice.objects.filter(kind="quota.reached", spread_at__isnull=False).exists())


def test_the_command_says_that_another_process_is_at_it(elsewhere):
    assert "another process" in run("--once")
    with pytest.raises(SystemExit) as left:
        run("--force")
    assert left.value.code == 1


def test_the_command_does_not_watch_when_it_is_forced():
    abandoned(open_workspace(100), 30)
    assert run("--force").startswith("30 holds expired")
    assert reconcile() == []
