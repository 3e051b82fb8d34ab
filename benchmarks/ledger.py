"""What a hold with its settlement costs: CPU of this process, and time, at several numbers of requests in flight.

    python -m benchmarks.ledger                          SQLite, in a temporary folder
    DATABASE_URL=postgres://... python -m benchmarks.ledger   in a scratch database beside the one named

Every pair is durable: a hold of 1,000 microcredits and a settlement with a usage record, three receipt lines and a trace.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import django
import uvloop

IN_FLIGHT = (1, 32, 64, 128)
Pairs = Sequence[tuple[Any, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pairs", type=int, default=16_000, help="how many pairs a row measures (a tenth of it at 1 in flight)"
    )
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory(prefix="ledger-benchmark-") as folder:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "infery_site.settings")
        os.environ["INFERY_STATE_DIR"] = folder
        os.environ["INFERY_TEST_SQLITE"] = str(Path(folder) / "ledger.sqlite3")
        django.setup()
        measure_in_scratch_database(pairs)


def measure_in_scratch_database(pairs: int) -> None:
    """Makes the database, prints one row per number in flight, proves the books, and removes the database."""
    from django.db import connection  # noqa: PLC0415 - needs the settings that `main` made

    from billing.ledger.reconcile import reconcile  # noqa: PLC0415

    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        subject = make_workspace()
        print(f"{connection.vendor}\n{'in flight':>9} {'pairs/s':>9} {'CPU us/pair':>12} {'p50 ms':>8} {'p99 ms':>8}")
        for in_flight in IN_FLIGHT:
            measure(in_flight, pairs if in_flight > 1 else pairs // 10, subject)
        print(f"violations of the books: {len(reconcile())}")
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)


def make_workspace() -> dict[str, int]:
    from billing.ledger.transfers import open_account, top_up  # noqa: PLC0415
    from billing.models import ApiKey, Workspace  # noqa: PLC0415
    from billing.pricing import MAX_MICROCREDITS  # noqa: PLC0415

    workspace = Workspace.objects.create(name="benchmark")
    account = open_account(workspace)
    top_up(workspace, MAX_MICROCREDITS // 2, idempotency_key="benchmark", actor="benchmark", reason="benchmark")
    key = ApiKey.objects.create(
        workspace=workspace, name="benchmark", digest=hashlib.sha256(b"benchmark").hexdigest(), hint="b"
    )
    return {"workspace_id": workspace.pk, "account_id": account.pk, "api_key_id": key.pk}


def measure(in_flight: int, count: int, subject: dict[str, int]) -> None:
    """Prints the row of one number in flight. The operations are made before, and are no part of it."""
    from infery_site.ids import generation_id  # noqa: PLC0415

    warm_up, measured = ([pair(generation_id(), subject) for _ in range(number)] for number in (count // 10 + in_flight, count))
    gc.collect()
    gc.freeze()
    waits, duration_s, cpu_s = uvloop.run(run(warm_up, measured, in_flight))
    gc.unfreeze()
    p50, *_, p99 = (wait * 1000 for wait in statistics.quantiles(waits, n=100)[49:])
    print(f"{in_flight:9} {count / duration_s:9.0f} {cpu_s / count * 1e6:12.1f} {p50:8.2f} {p99:8.2f}")


def pair(generation: str, subject: dict[str, int]) -> tuple[Any, Any]:
    """A hold and its settlement as a request of usual size makes them."""
    from billing.ledger.operations import HoldOperation, RequestRecord, SettleOperation, TraceRecord  # noqa: PLC0415
    from billing.pricing import Line, Usage  # noqa: PLC0415

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


async def run(warm_up: Pairs, measured: Pairs, in_flight: int) -> tuple[list[float], float, float]:
    """How long each pair waited, how long all took, and the CPU time of this process for all, in seconds."""
    from billing.ledger.writer import LedgerWriter  # noqa: PLC0415

    writer = LedgerWriter()
    await writer.start()

    async def take(pairs: Iterator[tuple[Any, Any]], waits: list[float]) -> None:
        for hold, settle in pairs:
            begin = time.monotonic()
            await writer.hold(hold)
            await writer.settle(settle)
            waits.append(time.monotonic() - begin)

    async def take_all(pairs: Pairs) -> list[float]:
        waits: list[float] = []
        shared = iter(pairs)
        await asyncio.gather(*(take(shared, waits) for _ in range(in_flight)))
        return waits

    await take_all(warm_up)
    begin, cpu = time.monotonic(), time.process_time()
    waits = await take_all(measured)
    duration_s, cpu_s = time.monotonic() - begin, time.process_time() - cpu
    await writer.stop()
    return waits, duration_s, cpu_s


if __name__ == "__main__":
    main()
