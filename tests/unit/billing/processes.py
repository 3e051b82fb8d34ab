"""Processes of their own that work on one ledger at the same time. A process imports no models before Django is set up."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

import django
import msgspec

START_TIMEOUT_S = 60.0
SPREAD_S = 0.2
IN_FLIGHT = 50


class Worker(NamedTuple):
    """What one process is told, and how it meets the others."""

    number: int
    database_name: str
    start: Barrier
    answers: Queue[Any]


class Admitted(msgspec.Struct, frozen=True):
    holds: int
    settled: int


def work_together(work: Any, database_name: str, arguments: Sequence[tuple[Any, ...]], *, timeout_s: float) -> list[Any]:
    """What `work`, a function of this module, gave in as many processes as there are `arguments`, in their order.

    They begin when the last of them is ready. None may log anything but an overrun: that the constraints under the ledger
    had to catch something, and that a batch was written twice, stand in the log.
    """
    processes = multiprocessing.get_context("spawn")
    start, answers = processes.Barrier(len(arguments)), processes.Queue()
    workers = [
        processes.Process(target=work, args=(Worker(number, database_name, start, answers), *each))
        for number, each in enumerate(arguments)
    ]
    for worker in workers:
        worker.start()
    answered = {number: (answer, logs) for number, answer, logs in (answers.get(timeout=timeout_s) for _ in workers)}
    for worker in workers:
        worker.join()
        worker.close()
    answers.close()
    logged = [entry for _, logs in answered.values() for entry in logs]
    assert not logged, logged
    return [answered[number][0] for number in range(len(workers))]


def admit_holds(worker: Worker, subject: tuple[int, int, int], count: int) -> None:
    """Asks for `count` holds of 1 at moments of its own, and settles every tenth of those it gets, for 1."""
    import asyncio  # noqa: PLC0415 - what is imported here is imported in the process
    import random  # noqa: PLC0415

    _set_up(worker)
    from billing.errors import InsufficientCredits  # noqa: PLC0415
    from billing.ledger.writer import LedgerWriter  # noqa: PLC0415
    from tests.unit.billing.books import Subject, hold_of, settle_of  # noqa: PLC0415

    who, moments = Subject(*subject), random.Random(worker.number)

    async def one(writer: LedgerWriter) -> Admitted:
        await asyncio.sleep(moments.random() * SPREAD_S)
        hold = hold_of(who, 1)
        try:
            await writer.hold(hold)
        except InsufficientCredits:
            return Admitted(0, 0)
        if moments.random() > 0.1:
            return Admitted(1, 0)
        return Admitted(1, (await writer.settle(settle_of(who, hold.generation, 1))).charged_microcredits)

    async def scenario(writer: LedgerWriter) -> Admitted:
        answers = await asyncio.gather(*(one(writer) for _ in range(count)))
        return Admitted(sum(answer.holds for answer in answers), sum(answer.settled for answer in answers))

    _answer(worker, scenario)


def close_holds(worker: Worker, subject: tuple[int, int, int], generations: Sequence[str], charge: int) -> None:
    """Settles all generations for `charge`, in an order of its own; charge and overrun of each, in the order given."""
    import asyncio  # noqa: PLC0415
    import random  # noqa: PLC0415

    _set_up(worker)
    from billing.ledger.writer import LedgerWriter  # noqa: PLC0415
    from tests.unit.billing.books import Subject, settle_of  # noqa: PLC0415

    who = Subject(*subject)
    order = random.Random(worker.number).sample(list(generations), len(generations))

    async def scenario(writer: LedgerWriter) -> list[tuple[int, int]]:
        turns = asyncio.Semaphore(IN_FLIGHT)

        async def one(generation: str) -> tuple[int, int]:
            async with turns:
                settled = await writer.settle(settle_of(who, generation, charge))
            return settled.charged_microcredits, settled.overrun_microcredits

        closed = dict(zip(order, await asyncio.gather(*map(one, order)), strict=True))
        return [closed[generation] for generation in generations]

    _answer(worker, scenario)


def _set_up(worker: Worker) -> None:
    django.setup()
    from django.db import connection  # noqa: PLC0415

    connection.settings_dict["NAME"] = worker.database_name


def _answer(worker: Worker, scenario: Any) -> None:
    """Runs the scenario with a writer when all processes are ready, and gives what it answers and what was logged."""
    from structlog.testing import capture_logs  # noqa: PLC0415

    from tests.unit.billing.books import with_writer  # noqa: PLC0415

    async def together(writer: Any) -> Any:
        worker.start.wait(START_TIMEOUT_S)
        return await scenario(writer)

    with capture_logs() as logs:
        answer = with_writer(together)
    worker.answers.put((worker.number, answer, [str(entry) for entry in logs if entry["event"] != "overrun"]))
