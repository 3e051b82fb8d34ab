"""What a hold with its settlement costs: CPU of this process, and time, at several numbers of requests in flight.

    python -m benchmarks.ledger                          SQLite, in a temporary folder
    DATABASE_URL=postgres://... python -m benchmarks.ledger   in a scratch database beside the one named

Every pair is durable: a hold of 1,000 microcredits and a settlement with a usage record, three receipt lines and a trace.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import django
import uvloop

IN_FLIGHT = (1, 32, 64, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each row is measured")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="ledger-benchmark-") as folder:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "infery_site.settings")
        os.environ["INFERY_STATE_DIR"] = folder
        os.environ["INFERY_TEST_SQLITE"] = str(Path(folder) / "ledger.sqlite3")
        django.setup()
        measure_in_scratch_database(seconds)


def measure_in_scratch_database(seconds: float) -> None:
    """Makes the database, prints one row per number in flight, proves the books, and removes the database."""
    from django.db import connection  # noqa: PLC0415 - needs the settings that `main` made

    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        subject = make_workspace()
        print(f"{connection.vendor}\n{'in flight':>9} {'pairs/s':>9} {'CPU us/pair':>12} {'p50 ms':>8} {'p99 ms':>8}")
        for in_flight in IN_FLIGHT:
            print(uvloop.run(measure(in_flight, seconds, subject)))
        from billing.ledger.reconcile import reconcile  # noqa: PLC0415

        violations = reconcile()
        print(f"reconcile: {len(violations)} violations")
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


async def measure(in_flight: int, seconds: float, subject: dict[str, int]) -> str:
    from billing.ledger.writer import LedgerWriter  # noqa: PLC0415

    writer = LedgerWriter()
    await writer.start()
    await asyncio.gather(*(pairs(writer, subject, time.monotonic() + seconds / 6) for _ in range(in_flight)))
    cpu, begin = time.process_time(), time.monotonic()
    measured = await asyncio.gather(*(pairs(writer, subject, begin + seconds) for _ in range(in_flight)))
    cpu, duration = time.process_time() - cpu, time.monotonic() - begin
    await writer.stop()
    waits = [wait for waits in measured for wait in waits]
    p50, *_, p99 = (wait * 1000 for wait in statistics.quantiles(waits, n=100)[49:])
    return f"{in_flight:9} {len(waits) / duration:9.0f} {cpu / len(waits) * 1e6:12.1f} {p50:8.2f} {p99:8.2f}"


async def pairs(writer: Any, subject: dict[str, int], until: float) -> list[float]:
    """Holds and settles until the time is over; how long each pair waited."""
    from billing.ledger.operations import HoldOperation, RequestRecord, SettleOperation, TraceRecord  # noqa: PLC0415
    from billing.pricing import Line, Usage  # noqa: PLC0415
    from infery_site.ids import generation_id  # noqa: PLC0415

    waits: list[float] = []
    lines = (
        Line("input", 1000, "million_tokens", 250_000, 250),
        Line("output", 200, "million_tokens", 1_000_000, 200),
        Line("rounding", 1, "request", 1, 1),
    )
    while (begin := time.monotonic()) < until:
        generation = generation_id()
        await writer.hold(
            HoldOperation(
                **subject, generation=generation, sequence=1, amount_microcredits=1_000, price_version_id=1, lease_s=90.0
            )
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
            lines=lines,
            status=200,
            end_state="done",
            finish_reason="stop",
            is_stream=False,
            latency_ms=321,
        )
        trace = TraceRecord(generation, '[{"target": "openai", "status": 200, "latency_ms": 300}]', "[]", '{"total": 321}')
        await writer.settle(
            SettleOperation(account_id=subject["account_id"], actual_microcredits=451, record=record, trace=trace)
        )
        waits.append(time.monotonic() - begin)
    return waits


if __name__ == "__main__":
    main()
