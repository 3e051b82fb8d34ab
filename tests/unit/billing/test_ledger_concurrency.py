"""Exact admission and exact closing under concurrency, and the database against a plain model."""

import asyncio
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from structlog.testing import capture_logs

from billing.ledger.reconcile import reconcile
from billing.ledger.transfers import top_up
from billing.ledger.writer import engine_of_django
from billing.models import Budget, Entry, Hold, UsageRecord, Workspace
from infery_site.ids import generation_id
from tests.unit.billing.admitting_process import admit_holds
from tests.unit.billing.books import (
    admit,
    new_budget,
    new_key,
    open_workspace,
    settle_of,
    with_writer,
)
from tests.unit.billing.machine import LedgerMachine

pytestmark = pytest.mark.django_db(transaction=True)


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


def test_several_processes_admit_exactly_what_is_there():
    acme, processes = open_workspace(500), multiprocessing.get_context("spawn")
    answers = processes.Queue()
    name = str(connection.settings_dict["NAME"])
    workers = [processes.Process(target=admit_holds, args=(name, tuple(acme), 500, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    admitted = sum(answers.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join()
        worker.close()
    answers.close()
    account = acme.account()
    settled = Entry.objects.filter(kind="usage").count()
    assert admitted == 500
    assert (account.posted_microcredits, account.held_microcredits) == (500 - settled, 500 - settled)
    assert settled >= 30
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


# Against a plain model


class DatabaseMachine(LedgerMachine):
    """Each example opens a workspace of its own in the same database."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.engine = engine_of_django()
        self.generations = {}

    def open(self, posted, limit):
        acme = open_workspace(posted)
        self.budget_id = new_budget("key", acme.api_key_id, limit).pk
        return acme

    def name(self, generation):
        return self.generations.setdefault(generation, generation_id())

    def run(self, batch):
        return self.runner.run(self.engine.run(batch)) if batch else []

    def top_up(self, amount):
        workspace = Workspace.objects.get(pk=self.subject.workspace_id)
        top_up(workspace, amount, idempotency_key=generation_id(), actor="tests", reason="more")

    def books(self):
        account, budget = self.subject.account(), Budget.objects.get(pk=self.budget_id)
        return (
            account.posted_microcredits,
            account.held_microcredits,
            budget.spent_microcredits,
            budget.held_microcredits,
        )

    def teardown(self):
        if hasattr(self, "model"):
            assert reconcile(workspace_id=self.subject.workspace_id) == []
        self.runner.run(self.engine.close())
        self.runner.close()


def test_the_database_agrees_with_a_plain_model():
    run_state_machine_as_test(
        DatabaseMachine,
        settings=settings(
            max_examples=20,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
    assert reconcile() == []


def test_closing_twice_from_several_loops_has_one_effect():
    acme = open_workspace(10_000)
    generations = with_writer(lambda writer: admit(writer, acme, [10] * 200))
    start = threading.Barrier(4)

    def close_all(charge):
        async def scenario(writer):
            start.wait()
            return await asyncio.gather(*(writer.settle(settle_of(acme, name, charge)) for name in generations))

        try:
            return with_writer(scenario)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(close_all, [0, 3, 7, 10]))
    for answered in zip(*answers, strict=True):
        assert len(set(answered)) == 1
    charged = sum(settled.charged_microcredits for settled in answers[0])
    assert acme.account().posted_microcredits == 10_000 - charged
    assert UsageRecord.objects.count() == 200
    assert reconcile() == []
