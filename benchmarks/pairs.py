"""Holds with their settlements, as fast as one ledger writer makes them: `python -m benchmarks.pairs PLAN`.

The plan is JSON and so is the answer on standard output. The database is that of the settings and has one workspace, which
pays for all. Every pair is durable: a hold of 1,000 microcredits, and a settlement with a usage record, three lines of a
receipt and a trace. When it is warm it says so by a line, and begins at a line on standard input, so that several of it
can begin together.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import django
import msgspec
import uvloop

from benchmarks.processes import cpu_seconds

if TYPE_CHECKING:
    from billing.ledger.writer import LedgerWriter

READY = "ready"
WARM_UP_S = 1.0
Pair = tuple[Any, Any]


class PairsPlan(msgspec.Struct, frozen=True, kw_only=True):
    """At most `pairs` of them in at most `seconds`. `database_id` is the process whose CPU time is read as well."""

    in_flight: int
    pairs: int
    seconds: float
    database_id: int | None = None


class PairsResult(msgspec.Struct, frozen=True):
    """What was done in `seconds`, the CPU it took this process and the database, and how long each pair took."""

    pairs: int
    seconds: float
    cpu_s: float
    database_cpu_s: float
    waits_ms: list[float]


def pair(subject: dict[str, int]) -> Pair:
    """A hold and its settlement as a request of usual size makes them."""
    from billing.ledger.operations import HoldOperation, RequestRecord, SettleOperation, TraceRecord  # noqa: PLC0415
    from billing.pricing import Line, Usage  # noqa: PLC0415
    from infery_site.ids import generation_id  # noqa: PLC0415

    generation = generation_id()
    hold = HoldOperation(
        **subject, generation=generation, sequence=1, amount_microcredits=1_000, price_version_id=1, lease_s=90.0
    )
    record = RequestRecord(
        generation=generation,
        request_id=f"req-{generation[9:]}",
        workspace_id=subject["workspace_id"],
        api_key_id=subject["api_key_id"],
        model_asked="gpt-4o",
        model_used="gpt-4o",
        provider="openai",
        price_version_id=1,
        usage=Usage(prompt_tokens=1000, completion_tokens=200),
        usage_source="reported",
        lines=(
            Line("input", 1000, "million_tokens", 250_000, 250),
            Line("output", 200, "million_tokens", 1_000_000, 200),
            Line("rounding", 1, "request", 1, 1),
        ),
        status=200,
        end_state="done",
        finish_reason="stop",
        is_stream=False,
        latency_ms=321,
    )
    trace = TraceRecord(generation, '[{"target": "openai", "status": 200, "latency_ms": 300}]', "[]", '{"total": 321}')
    return hold, SettleOperation(account_id=subject["account_id"], actual_microcredits=451, record=record, trace=trace)


def payer() -> dict[str, int]:
    """The ids of the one workspace, its account and its key."""
    from billing.models import ApiKey  # noqa: PLC0415

    key = ApiKey.objects.select_related("workspace__account").get()
    return {"workspace_id": key.workspace_id, "account_id": key.workspace.account.pk, "api_key_id": key.pk}


async def make(writer: LedgerWriter, pairs: Sequence[Pair], in_flight: int, seconds: float) -> list[float]:
    """How long each pair took, in seconds, of as many as were made before the time was over."""
    waits: list[float] = []
    end = time.monotonic() + seconds
    left = iter(pairs)

    async def take(shared: Iterator[Pair]) -> None:
        for hold, settle in shared:
            begin = time.monotonic()
            if begin > end:
                return
            await writer.hold(hold)
            await writer.settle(settle)
            waits.append(time.monotonic() - begin)

    await asyncio.gather(*(take(left) for _ in range(in_flight)))
    return waits


async def run(plan: PairsPlan, warm_up: Sequence[Pair], pairs: Sequence[Pair]) -> PairsResult:
    from billing.ledger.writer import LedgerWriter  # noqa: PLC0415

    writer = LedgerWriter()
    await writer.start()
    await make(writer, warm_up, plan.in_flight, min(plan.seconds, WARM_UP_S))
    print(READY, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    database_before_s = 0.0 if plan.database_id is None else cpu_seconds(plan.database_id)
    begin, cpu_before_s = time.monotonic(), time.process_time()
    waits = await make(writer, pairs, plan.in_flight, plan.seconds)
    seconds, cpu_s = time.monotonic() - begin, time.process_time() - cpu_before_s
    database_cpu_s = 0.0 if plan.database_id is None else cpu_seconds(plan.database_id) - database_before_s
    await writer.stop()
    return PairsResult(len(waits), seconds, cpu_s, database_cpu_s, [round(wait * 1000, 3) for wait in waits])


def _main(plan: PairsPlan) -> None:
    django.setup()
    subject = payer()
    # Made before, because they are no part of what is measured.
    warm_up, pairs = ([pair(subject) for _ in range(number)] for number in (plan.pairs // 10 + plan.in_flight, plan.pairs))
    gc.collect()
    gc.freeze()
    result = uvloop.run(run(plan, warm_up, pairs))
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    _main(msgspec.json.decode(sys.argv[1], type=PairsPlan))
