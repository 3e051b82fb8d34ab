"""What a hold with its settlement costs: CPU and time, at several numbers in flight, and with many processes on one row.

Each row is measured in processes of its own (`pairs.py`) on a fresh, durable database with one workspace, for a few
seconds. Afterwards the books must balance.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks.gateway import environment_of
from benchmarks.pairs import READY, PairsPlan, PairsResult
from benchmarks.processes import ROOT, BenchmarkError, run_python
from benchmarks.scenarios import database

IN_FLIGHT = (1, 32, 128)
CREDITS = 1_000_000
# More are not made ready: of one in flight, and of many.
_MOST_ALONE_PER_S = 1_500
_MOST_PER_S = 6_000
_ROW_TIMEOUT_S = 120.0


class LedgerSize(msgspec.Struct, frozen=True):
    """How long each row is measured; `processes` share the workspace in the last one, with so many in flight in each."""

    seconds: float = 5.0
    processes: int = 8
    shared_in_flight: int = 16


class LedgerRow(msgspec.Struct, frozen=True):
    """CPU is in microseconds per pair: of the processes that made them, and of the database server beside them."""

    engine: str
    processes: int
    in_flight: int
    pairs_per_s: float
    cpu_us: float
    database_us: float
    p50_ms: float
    p99_ms: float


def measure(engine: str, size: LedgerSize, folder: Path) -> list[LedgerRow]:
    """One process at each of IN_FLIGHT, then all processes. Raises BenchmarkError, also if the books do not balance."""
    with database(engine) as (url, database_id):
        environment = environment_of(folder, url)
        environment["DJANGO_SETTINGS_MODULE"] = "infery_site.settings"
        run_python(["manage.py", "migrate", "--verbosity", "0"], environment)
        run_python(["manage.py", "create_workspace", "Bench", "--credits", str(CREDITS), "--json"], environment)
        rows = []
        for processes, in_flight in [*((1, number) for number in IN_FLIGHT), (size.processes, size.shared_in_flight)]:
            sys.stderr.write(f"  holds and settlements: {processes} x {in_flight} in flight\n")
            # One of them reads the CPU time of the database for all.
            pairs = max(1, round(size.seconds * (_MOST_ALONE_PER_S if in_flight == 1 else _MOST_PER_S) / processes))
            plan = PairsPlan(in_flight=in_flight, pairs=pairs, seconds=size.seconds)
            first = msgspec.structs.replace(plan, database_id=database_id)
            plans = [first, *[plan] * (processes - 1)]
            rows.append(_row(engine, in_flight, _run_together(plans, environment)))
        proof = json.loads(run_python(["manage.py", "reconcile_ledger", "--json"], environment))
        if proof["violations"]:
            raise BenchmarkError(f"the books do not balance: {proof['violations'][:3]}")
    return rows


def _run_together(plans: list[PairsPlan], environment: dict[str, str]) -> list[PairsResult]:
    """A process for each plan; they begin when all are ready. Raises BenchmarkError."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.pairs", msgspec.json.encode(plan).decode()],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for plan in plans
    ]
    try:
        for process in processes:
            line = process.stdout.readline() if process.stdout else ""
            if line.strip() != READY:
                raise BenchmarkError(f"benchmarks.pairs did not begin: {line!r}")
        for process in processes:
            if process.stdin:
                process.stdin.write("\n")
                process.stdin.flush()
        outputs = [process.communicate(timeout=_ROW_TIMEOUT_S)[0] for process in processes]
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"benchmarks.pairs: {error}") from error
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if any(process.returncode for process in processes):
        raise BenchmarkError("benchmarks.pairs failed")
    return [msgspec.json.decode(output, type=PairsResult) for output in outputs]


def _row(engine: str, in_flight: int, results: list[PairsResult]) -> LedgerRow:
    pairs = sum(result.pairs for result in results)
    if not pairs:
        raise BenchmarkError("no pair was made in time")
    waits_ms = sorted(wait for result in results for wait in result.waits_ms)
    return LedgerRow(
        engine,
        len(results),
        in_flight,
        pairs / max(result.seconds for result in results),
        sum(result.cpu_s for result in results) / pairs * 1e6,
        sum(result.database_cpu_s for result in results) / pairs * 1e6,
        *(waits_ms[-(-len(waits_ms) * percent // 100) - 1] for percent in (50, 99)),
    )


def table(rows: list[LedgerRow]) -> str:
    lines = [
        "A hold with its settlement",
        f"{'':10} {'processes':>9} {'in flight':>9} {'pairs/s':>9} {'CPU us':>8} {'database us':>12} {'p50 ms':>8} {'p99 ms':>8}",
    ]
    lines += [
        f"{row.engine:10} {row.processes:9} {row.in_flight:9} {row.pairs_per_s:9,.0f} {row.cpu_us:8.1f} "
        f"{row.database_us:12.1f} {row.p50_ms:8.2f} {row.p99_ms:8.2f}"
        for row in rows
    ]
    return "\n".join(lines)
