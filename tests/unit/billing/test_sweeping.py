"""Leases: what ends a hold that nobody keeps open, and what is left of its request."""

import random
import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import DatabaseError, OperationalError, connection
from django.utils import timezone
from structlog.testing import capture_logs

from billing.ledger.engines import engine_of_django
from billing.ledger.operations import HoldRefused, Settled
from billing.ledger.reconcile import reconcile
from billing.models import Budget, Entry, Hold, UsageRecord
from billing.sweeping import ROUNDS_OF_RENEWAL, Sweeper, Swept
from tests.unit.billing.books import (
    hold_of,
    new_budget,
    open_workspace,
    other_connection,
    settle_of,
    with_writer,
)
from tests.unit.billing.clocks import Clocks
from tests.unit.billing.leases import hold_and_leave, in_thread, locked_hold, sweep

pytestmark = pytest.mark.django_db(transaction=True)


def end_leases(**chosen):
    Hold.objects.filter(**chosen).update(lease_expires_at=timezone.now() - timedelta(seconds=1))


def states():
    return sorted(Hold.objects.values_list("state", flat=True))


def test_what_a_killed_process_held_is_given_back():
    acme, rival = open_workspace(100), open_workspace(50, name="rival")
    new_budget("key", acme.api_key_id, 90)
    new_budget("workspace", acme.workspace_id, 90, period="day")
    hold_and_leave(acme, 10, 20, 30)
    hold_and_leave(rival, 5)
    assert sweep() == Swept()
    end_leases(amount_microcredits__in=[10, 30, 5])
    assert sweep() == Swept(expired=3)
    assert states() == ["expired", "expired", "expired", "open"]
    assert [(held.account().posted_microcredits, held.account().held_microcredits) for held in (acme, rival)] == [
        (100, 20),
        (50, 0),
    ]
    assert set(Budget.objects.values_list("held_microcredits", "spent_microcredits")) == {(20, 0)}
    assert Hold.objects.filter(state="expired", closed_at__isnull=True).count() == 0
    assert (UsageRecord.objects.count(), Entry.objects.filter(kind="usage").count()) == (0, 0)
    assert sweep() == Swept()
    assert reconcile() == []


def test_a_lease_ends_by_itself():
    acme = open_workspace(100)
    with_writer(lambda writer: writer.hold(hold_of(acme, 40, lease_s=0.2)))
    time.sleep(0.4)
    assert sweep() == Swept(expired=1)
    assert acme.account().held_microcredits == 0
    assert reconcile() == []


def test_a_budget_that_was_deleted_since_is_passed_over():
    acme = open_workspace(100)
    budget = new_budget("key", acme.api_key_id, 90)
    hold_and_leave(acme, 10)
    budget.delete()
    end_leases()
    assert sweep() == Swept(expired=1)
    assert reconcile() == []


def test_more_than_one_batch():
    acme = open_workspace(2000)
    hold_and_leave(acme, *[1] * 700)
    end_leases()
    assert sweep() == Swept(expired=700)
    assert acme.account().held_microcredits == 0
    assert reconcile() == []


def test_the_holds_of_many_accounts_go_in_one_pass():
    subjects = [open_workspace(2000, name=name) for name in ("acme", "rival", "third")]
    for subject, count in zip(subjects, (501, 500, 1), strict=True):
        hold_and_leave(subject, *[1] * count)
    end_leases()
    assert sweep() == Swept(expired=1002)
    assert {subject.account().held_microcredits for subject in subjects} == {0}
    assert reconcile() == []


def test_sweeps_side_by_side_expire_each_hold_once():
    acme = open_workspace(2000)
    hold_and_leave(acme, *[1] * 600)
    end_leases()
    found, start = [], threading.Barrier(3)

    def work():
        start.wait()
        found.append(sweep().expired)

    threads = [threading.Thread(target=in_thread(work)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found) == 600
    assert acme.account().held_microcredits == 0
    assert reconcile() == []


def test_a_hold_that_is_being_renewed_is_passed_over():
    if connection.vendor != "postgresql":
        pytest.skip("one writer at a time on SQLite: a sweep waits for the renewal")
    acme = open_workspace(100)
    renewed, _ = hold_and_leave(acme, 10, 10)
    end_leases()
    with locked_hold(renewed):
        assert sweep() == Swept(expired=1)
    assert Hold.objects.get(generation=renewed).state == "open"
    assert sweep() == Swept(expired=1)
    assert reconcile() == []


# The clock


@pytest.mark.parametrize("count", [1, 30])
def test_a_new_sweeper_watches_for_two_rounds_of_renewal(count):
    """It cannot know whether the clock jumped just before."""
    acme, clocks = open_workspace(100), Clocks()
    hold_and_leave(acme, *[1] * count)
    end_leases()
    sweeper = clocks.sweeper()
    for _ in range(4):
        assert sweeper.sweep() == Swept(is_waiting=True)
        clocks.wait(15)
    assert sweeper.sweep() == Swept(expired=count)
    assert acme.account().held_microcredits == 0
    assert reconcile() == []


def test_it_watches_by_the_real_clocks(settings):
    settings.LEASE_RENEW_S = 0.5
    acme, sweeper = open_workspace(100), Sweeper()
    hold_and_leave(acme, 5)
    end_leases()
    begun_s = time.monotonic()
    swept = [sweeper.sweep()]
    while swept[-1].is_waiting:
        time.sleep(0.05)
        swept.append(sweeper.sweep())
    assert time.monotonic() - begun_s >= 1
    assert (swept[0], swept[-1]) == (Swept(is_waiting=True), Swept(expired=1))


@pytest.mark.parametrize(
    ("past", "alive", "level"),
    [(20, 0, "warning"), (21, 0, "error"), (21, 83, "error"), (21, 84, "warning"), (600, 0, "error")],
)
def test_many_holds_of_a_killed_process_go_in_one_pass_and_are_an_alarm(past, alive, level):
    """More than 20, and more than 20 % of the open ones."""
    acme, clocks = open_workspace(10_000), Clocks()
    sweeper = clocks.watching_sweeper()
    hold_and_leave(acme, *[2] * past, *[1] * alive)
    Hold.objects.filter(amount_microcredits=2).update(lease_expires_at=clocks.now() - timedelta(seconds=1))
    with capture_logs() as logs:
        assert sweeper.sweep() == Swept(expired=past)
    assert [(entry["log_level"], entry["count"]) for entry in logs] == [(level, past)]
    assert states().count("open") == acme.account().held_microcredits == alive
    assert reconcile() == []


def renew(clocks, **chosen):
    Hold.objects.filter(state="open", **chosen).update(lease_expires_at=clocks.now() + timedelta(seconds=90))


@pytest.mark.parametrize("count", [1, 30])
def test_a_clock_that_runs_ahead_expires_nothing_that_lives(count):
    acme, clocks = open_workspace(100), Clocks()
    sweeper = clocks.watching_sweeper()
    hold_and_leave(acme, *[1] * count, 2)
    renew(clocks)
    clocks.wait(15)
    clocks.jump(3600)
    with capture_logs() as logs:
        assert sweeper.sweep() == Swept(is_waiting=True)
    assert [(entry["log_level"], entry.get("ahead_s")) for entry in logs] == [("error", 3600), ("warning", None)]
    clocks.wait(15)
    renew(clocks, amount_microcredits=1)
    for _ in range(3):
        assert sweeper.sweep() == Swept(is_waiting=True), "one of them was renewed by nobody"
        clocks.wait(15)
    assert sweeper.sweep() == Swept(expired=1)
    assert states() == ["expired", *["open"] * count]


def test_a_clock_that_is_set_back_during_a_pass_expires_nothing_that_lives():
    """What was renewed by it since the pass has read it looks an hour past its lease."""
    acme, clocks, after = open_workspace(100), Clocks(), []

    def now():
        moment = clocks.now()
        if after:
            after.pop()()
        return moment

    def set_back():
        clocks.jump(-3600)
        renew(clocks, amount_microcredits=1)
        Hold.objects.filter(amount_microcredits=2).update(lease_expires_at=clocks.now() - timedelta(seconds=1))

    hold_and_leave(acme, *[1] * 5, 2)
    clocks.jump(3600)
    sweeper = Sweeper(now=now, monotonic=clocks.monotonic, boot=lambda: clocks.boot)
    for _ in range(ROUNDS_OF_RENEWAL):
        renew(clocks)
        sweeper.sweep()
        clocks.wait(settings.LEASE_RENEW_S)
    after.append(set_back)
    assert sweeper.sweep() == Swept(expired=1), "which nobody renewed"
    assert states() == ["expired", *["open"] * 5]
    assert reconcile() == []


def test_a_sweeper_that_stays_suspicious_does_not_mistake_the_jumped_clock_for_now():
    """The clock jumps and comes back, and at once another process is killed with most of the holds."""
    acme, clocks = open_workspace(100), Clocks()
    sweeper = clocks.watching_sweeper()
    hold_and_leave(acme, *[1] * 30, *[2] * 30)
    clocks.jump(3600)
    assert sweeper.sweep() == Swept(is_waiting=True)
    clocks.jump(-3600)
    renew(clocks)
    Hold.objects.filter(amount_microcredits=2).update(lease_expires_at=clocks.now() - timedelta(seconds=1))
    for _ in range(4):
        clocks.wait(15)
        renew(clocks, amount_microcredits=1)
        swept = sweeper.sweep()
    assert swept == Swept(expired=30)
    assert acme.account().held_microcredits == 30


def test_a_new_sweeper_in_the_middle_of_a_jump_expires_nothing_that_lives():
    acme, clocks = open_workspace(100), Clocks()
    hold_and_leave(acme, *[1] * 5)
    clocks.jump(3600)
    sweeper = clocks.sweeper()
    assert sweeper.sweep() == Swept(is_waiting=True)
    clocks.wait(25)
    renew(clocks)
    clocks.jump(-3600)
    assert sweeper.sweep() == Swept()
    clocks.jump(3600)
    assert sweeper.sweep() == Swept(is_waiting=True)
    clocks.wait(45)
    assert sweeper.sweep() == Swept(is_waiting=True), "they were renewed by nobody yet"
    renew(clocks)
    clocks.wait(15)
    assert sweeper.sweep() == Swept()
    assert states() == ["open"] * 5


@pytest.mark.parametrize("restart_s", [1, 16, 44, 61, 75, 88])
def test_the_successor_of_a_killed_process_keeps_the_promise(restart_s):
    """A lease and a sweep after the kill nothing is held any more, if there is a process by then and the clock is well."""
    acme, clocks = open_workspace(100), Clocks()
    sweeper = clocks.watching_sweeper()
    sweeper.sweep()
    clocks.wait(14)
    hold_and_leave(acme, *[1] * 30)
    renew(clocks)
    clocks.wait(restart_s)
    successor, waited_s = clocks.sweeper(), restart_s
    while waited_s < 90 + 15:
        successor.sweep()
        step_s = min(15, 90 + 15 - waited_s)
        clocks.wait(step_s)
        waited_s += step_s
    successor.sweep()
    assert acme.account().held_microcredits == 0
    assert reconcile() == []


@pytest.mark.parametrize("is_same_boot", [True, False])
def test_a_successor_whose_clock_ran_ahead_expires_nothing_that_lives(is_same_boot):
    acme, clocks = open_workspace(100), Clocks()
    clocks.watching_sweeper().sweep()
    hold_and_leave(acme, 1, 2)
    renew(clocks)
    clocks.wait(15)
    clocks.jump(3600)
    clocks.boot = clocks.boot if is_same_boot else "another"
    successor = clocks.sweeper()
    for _ in range(4):
        assert successor.sweep() == Swept(is_waiting=True)
        clocks.wait(15)
        renew(clocks, amount_microcredits=1)
    assert successor.sweep() == Swept(expired=1)
    assert states() == ["expired", "open"]


def test_a_successor_goes_on_with_a_watch_that_had_just_begun():
    acme, clocks = open_workspace(100), Clocks()
    sweeper = clocks.watching_sweeper()
    clocks.jump(3600)
    sweeper.sweep()
    hold_and_leave(acme, 1)
    end_leases()
    clocks.wait(45)
    assert clocks.sweeper().sweep() == Swept(is_waiting=True)
    clocks.wait(15)
    assert clocks.sweeper().sweep() == Swept(expired=1)


def test_a_clock_that_was_set_back_keeps_no_credit_for_longer_than_a_lease():
    acme, clocks = open_workspace(100), Clocks()
    sweeper = clocks.watching_sweeper()
    clocks.jump(3600)
    hold_and_leave(acme, 1, 2)
    renew(clocks)
    clocks.jump(-3600)
    with capture_logs() as logs:
        assert sweeper.sweep() == Swept()
    assert [(entry["log_level"], entry["count"]) for entry in logs] == [("error", 2)]
    assert {hold.lease_expires_at for hold in Hold.objects.all()} == {clocks.now() + timedelta(seconds=90)}
    for _ in range(7):
        clocks.wait(15)
        renew(clocks, amount_microcredits=1)
        swept = sweeper.sweep()
    assert swept == Swept(expired=1)
    assert acme.account().held_microcredits == 1


@pytest.mark.parametrize("trouble", ["the database is away", "no pass for too long"])
def test_what_hides_renewals_ends_the_watch(trouble):
    """Living processes could not renew either: they come first when the database is there again."""
    acme, clocks = open_workspace(100), Clocks()
    sweeper = clocks.watching_sweeper()
    hold_and_leave(acme, 1, 1)
    if trouble == "the database is away":
        clocks.failure = OperationalError("away")
        for _ in range(4):
            with pytest.raises(OperationalError):
                sweeper.sweep()
            clocks.wait(12)
        clocks.failure = None
    else:
        clocks.wait(61)
    end_leases()
    assert sweeper.sweep() == Swept(is_waiting=True)
    renew(clocks)
    clocks.wait(60)
    assert sweeper.sweep() == Swept()
    assert states() == ["open", "open"]


def test_a_pass_that_fails_costs_the_dead_no_further_watch():
    """The file may be locked for longer than a pass waits; a lease and a sweep after the kill they are gone all the same."""
    acme, clocks = open_workspace(100), Clocks()
    sweeper = clocks.watching_sweeper()
    hold_and_leave(acme, 1, 1)
    renew(clocks)
    for _ in range(5):
        assert sweeper.sweep() == Swept()
        clocks.wait(15)
    clocks.failure = OperationalError("away")
    with pytest.raises(OperationalError):
        sweeper.sweep()
    clocks.failure = None
    clocks.wait(20)
    assert sweeper.sweep() == Swept(expired=2)


def test_a_pass_that_fails_hides_no_clock_that_runs_ahead():
    acme, clocks = open_workspace(100), Clocks()
    sweeper = clocks.watching_sweeper()
    hold_and_leave(acme, 1)
    renew(clocks)
    clocks.failure = OperationalError("away")
    with pytest.raises(OperationalError):
        sweeper.sweep()
    clocks.failure = None
    clocks.jump(3600)
    assert sweeper.sweep() == Swept(is_waiting=True)


@contextmanager
def no_writes():
    """A database that can be read: on PostgreSQL a standby's, on SQLite while somebody else writes."""
    if connection.vendor == "sqlite":
        options = connection.settings_dict["OPTIONS"]
        before_s, options["timeout"] = options["timeout"], 0.01
        try:
            with other_connection():
                yield
        finally:
            options["timeout"] = before_s
        return
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        try:
            yield
        finally:
            cursor.execute("SET default_transaction_read_only = off")


def test_a_database_that_takes_no_writes_ends_the_watch():
    acme, clocks = open_workspace(100), Clocks()
    sweeper = clocks.watching_sweeper()
    with no_writes():
        for _ in range(4):
            with pytest.raises(DatabaseError):
                sweeper.sweep()
            clocks.wait(12)
    hold_and_leave(acme, 1)
    end_leases()
    assert sweeper.sweep() == Swept(is_waiting=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_clock_does_the_living_stay_and_the_dead_go(seed):
    """Ten minutes with three processes and two sweepers: jumps of up to two hours, a kill, sweepers that start anew."""
    chance, clocks, acme = random.Random(seed), Clocks(), open_workspace(100)
    processes = [hold_and_leave(acme, *[1] * 9) for _ in range(3)]
    renewal_phases = [chance.randrange(0, 30, 5) for _ in processes]
    sweepers = [clocks.sweeper(), clocks.sweeper()]
    jumps = {chance.randrange(0, 300, 5): chance.uniform(-7200, 7200) for _ in range(chance.randrange(4))}
    restarts = {chance.randrange(0, 300, 5) for _ in range(chance.randrange(3))}
    killed_s = chance.randrange(0, 300, 5)
    for second in range(0, 600, 5):
        if second == killed_s:
            processes.pop()
        if second in restarts:
            sweepers[0] = clocks.sweeper()
        clocks.jump(jumps.get(second, 0))
        for generations, phase in zip(processes, renewal_phases, strict=False):
            if second % 30 == phase:
                renew(clocks, generation__in=generations)
        for number, sweeper in enumerate(sweepers):
            if second % 15 == 5 * number:
                sweeper.sweep()
        is_open = set(Hold.objects.filter(state="open").values_list("generation", flat=True))
        assert is_open.issuperset(generation for generations in processes for generation in generations), second
        clocks.wait(5)
        # A clock that stays as it is keeps the promise to the second; a jump costs two rounds, or a whole lease.
        calm_s = second - max([killed_s, *jumps])
        if second > killed_s and calm_s > (90 + 15 if max(jumps, default=0) < killed_s else 90 + 15 + 60 + 15):
            assert len(is_open) == 18, second
    assert acme.account().held_microcredits == 18


# A settlement that comes too late


@pytest.mark.parametrize("status", [200, 502])
def test_a_late_settlement_charges_nothing_and_says_so(status):
    acme = open_workspace(100)
    new_budget("key", acme.api_key_id, 90)
    [generation] = hold_and_leave(acme, 40)
    end_leases()
    sweep()
    cost = 15 if status == 200 else 0
    settlement = settle_of(acme, generation, cost, status=status)
    assert with_writer(lambda writer: writer.settle(settlement)) == Settled(0, cost)
    assert with_writer(lambda writer: writer.settle(settlement)) == Settled(0, cost)
    record = UsageRecord.objects.get()
    assert (record.end_state, record.status, record.charged_microcredits, record.overrun_microcredits) == (
        "expired",
        status,
        0,
        cost,
    )
    assert acme.account().posted_microcredits == 100
    assert states() == ["expired"]
    assert reconcile() == []


def test_a_late_settlement_takes_what_is_still_held():
    """Of a stream that held twice, and whose first hold alone had expired."""
    acme = open_workspace(100)
    first = hold_of(acme, 40)
    second = hold_of(acme, 30, generation=first.generation, sequence=2)

    async def both(writer):
        await writer.hold(first)
        await writer.hold(second)

    with_writer(both)
    end_leases(sequence=1)
    assert sweep() == Swept(expired=1)
    settlement = settle_of(acme, first.generation, 50)
    assert with_writer(lambda writer: writer.settle(settlement)) == Settled(30, 20)
    assert UsageRecord.objects.get().end_state == "expired"
    assert states() == ["expired", "settled"]
    assert reconcile() == []


def test_an_expired_generation_takes_no_further_hold():
    acme = open_workspace(100)
    [generation] = hold_and_leave(acme, 40)
    end_leases()
    sweep()

    async def scenario(_):
        engine = engine_of_django()
        [again, further] = [hold_of(acme, 40, generation=generation, sequence=sequence) for sequence in (1, 2)]
        results = await engine.run([again, further])
        await engine.close()
        return results

    assert with_writer(scenario) == [HoldRefused("closed", 40), HoldRefused("closed", 40)]
    assert acme.account().held_microcredits == 0
