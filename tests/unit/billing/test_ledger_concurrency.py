"""Exact admission and exact closing under concurrency.

Each proof has a short form, and its full figures under `-m long`.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from structlog.testing import capture_logs

from billing import budgets
from billing.errors import BudgetExceeded
from billing.ledger.reconcile import reconcile
from billing.models import Budget, Entry, Hold, UsageRecord, Workspace
from tests.unit.billing.books import (
    admit,
    hold_of,
    new_budget,
    new_key,
    open_workspace,
    settle_of,
    with_writer,
)
from tests.unit.billing.processes import admit_holds, close_holds, work_together

pytestmark = pytest.mark.django_db(transaction=True)

ONE_BY_ONE = 150
PROCESSES = {"sqlite": 4, "postgresql": 8}


def long(*values):
    """A case of a proof in its full size."""
    return pytest.param(*values, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1800)])


# Exact admission


def test_a_thousand_holds_against_five_hundred_admit_five_hundred():
    acme = open_workspace(500)
    admitted = with_writer(lambda writer: admit(writer, acme, [1] * 1000))
    assert len(admitted) == 500
    assert acme.account().held_microcredits == Hold.objects.count() == 500
    assert reconcile() == []


def test_several_event_loops_admit_exactly_what_is_there():
    acme = open_workspace(500)

    def in_a_thread(_):
        try:
            return len(with_writer(lambda writer: admit(writer, acme, [1] * 300)))
        finally:
            connection.close()

    with capture_logs() as logs, ThreadPoolExecutor(4) as threads:
        admitted = sum(threads.map(in_a_thread, range(4)))
    assert admitted == acme.account().held_microcredits == 500
    assert logs == []  # By the locks, that is, and not by the constraints under them.
    assert reconcile() == []


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "processes"), [pytest.param(1000, 2, id="short"), long(10_000, None)])
def test_several_processes_admit_exactly_what_is_there(asked, processes):
    """Twice as many holds of 1 as there is credit, of which some are settled while the others are asked for."""
    processes = processes or PROCESSES[connection.vendor]
    acme = open_workspace(asked // 2)
    arguments = [(tuple(acme), asked // processes)] * processes
    answers = work_together(admit_holds, str(connection.settings_dict["NAME"]), arguments, timeout_s=600)
    account, settled = acme.account(), sum(answer.settled for answer in answers)
    assert sum(answer.holds for answer in answers) == Hold.objects.count() == asked // 2
    assert (account.posted_microcredits, account.held_microcredits) == (asked // 2 - settled, asked // 2 - settled)
    assert Entry.objects.filter(kind="usage").count() == settled > 0
    assert reconcile() == []


def test_a_budget_is_exact_under_many_holds():
    acme = open_workspace(10_000)
    new_budget("key", acme.api_key_id, 120)
    new_budget("workspace", acme.workspace_id, 200, period="day")
    other = acme._replace(api_key_id=new_key(Workspace.objects.get()).pk)

    def in_a_thread(subject):
        try:
            return len(with_writer(lambda writer: admit(writer, subject, [1] * 150)))
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(in_a_thread, [acme, acme])
    assert first + second == 120
    assert len(with_writer(lambda writer: admit(writer, other, [1] * 150))) == 80
    assert list(Budget.objects.order_by("id").values_list("held_microcredits", flat=True)) == [120, 200]
    assert reconcile() == []


@pytest.mark.slow
def test_a_budget_that_comes_and_goes_costs_no_request_an_answer():
    """It is read with a lock. Else a batch of one would be written on a row that is another by now, and be lost."""
    acme = open_workspace(10_000)
    is_over = threading.Event()

    def come_and_go():
        try:
            while not is_over.is_set():
                for limit in (0, 1_000, None):
                    budgets.set_budget(Workspace.objects.get(), period="day", limit_microcredits=limit, actor="tests")
                    time.sleep(0.002)  # SQLite has one writer at a time, and no queue
        finally:
            connection.close()

    async def scenario(writer):
        paid = 0
        for _ in range(ONE_BY_ONE):
            hold = hold_of(acme, 10)
            try:
                await writer.hold(hold)
            except BudgetExceeded:
                continue
            paid += (await writer.settle(settle_of(acme, hold.generation, 1))).charged_microcredits
        return paid

    with capture_logs() as logs, ThreadPoolExecutor(1) as thread:
        work = thread.submit(come_and_go)
        try:
            paid = with_writer(scenario)
        finally:
            is_over.set()
        work.result()
    assert logs == []
    account = acme.account()
    assert (account.posted_microcredits, account.held_microcredits) == (10_000 - paid, 0)
    assert reconcile() == []


# Closing twice


@pytest.mark.slow
@pytest.mark.parametrize("count", [pytest.param(400, id="short"), long(10_000)])
def test_closing_from_four_processes_has_one_effect(count):
    """Each process closes every generation, with a charge of its own: the first one stands, and all are told so."""
    charges = (0, 3, 7, 12)
    acme = open_workspace(10 * count)
    generations = with_writer(lambda writer: admit(writer, acme, [10] * count))
    arguments = [(tuple(acme), generations, charge) for charge in charges]
    answers = work_together(close_holds, str(connection.settings_dict["NAME"]), arguments, timeout_s=600)
    assert all(answer == answers[0] for answer in answers)
    assert set(answers[0]) <= {(0, 0), (3, 0), (7, 0), (10, 2)}
    records = UsageRecord.objects.values_list("generation", "charged_microcredits", "overrun_microcredits")
    assert sorted(records) == sorted((name, *closed) for name, closed in zip(generations, answers[0], strict=True))
    entries = Entry.objects.filter(kind="usage").values_list("generation", "amount_microcredits")
    assert sorted(entries) == sorted((name, paid) for name, (paid, _) in zip(generations, answers[0], strict=True) if paid)
    account = acme.account()
    assert (account.posted_microcredits, account.held_microcredits) == (10 * count - sum(paid for paid, _ in answers[0]), 0)
    assert reconcile() == []
