"""`python -m benchmarks [gateway|ledger|crowd|staff] [--engine sqlite|postgresql|both] [--requests N] [--json FILE] ...`.

Without the first word all are measured: the gateway as a whole, its ledger alone, a crowd of slow streams, and the staff
admin over a million requests. The exit status is 0 when everything was measured and every limit is met, else 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks import crowd, ledger, report, staff
from benchmarks.processes import BenchmarkError
from benchmarks.report import Figures, figures
from benchmarks.scenarios import LONGER, EngineResult, Size, measure
from tests.postgres import PostgresUnavailableError

ENGINES = ("sqlite", "postgresql")


class Results(msgspec.Struct, frozen=True):
    """What `--json` keeps: the size of the rounds, the medians, every round, the rows of the ledger, and the crowds."""

    size: Size
    figures: list[Figures]
    rounds: list[EngineResult]
    ledger: list[ledger.LedgerRow]
    crowds: list[crowd.CrowdResult]
    staff: list[staff.StaffResult]


def _main() -> int:
    arguments = _parsed()
    engines = ENGINES if arguments.engine == "both" else (arguments.engine,)
    size = Size(
        rounds=arguments.rounds,
        requests=arguments.requests,
        in_flight=arguments.in_flight,
        alone_requests=max(arguments.requests // 10, 1),
        paced_streams=arguments.in_flight * LONGER,
        burst_streams=max(arguments.requests // 10, arguments.in_flight * LONGER),  # the long ones, too, are so many at once
        events=100,
    )
    rounds: list[EngineResult] = []
    rows: list[ledger.LedgerRow] = []
    crowds: list[crowd.CrowdResult] = []
    pages: list[staff.StaffResult] = []
    try:
        for engine in engines:
            sys.stderr.write(f"{engine}\n")
            if arguments.what in {"all", "gateway"}:
                with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
                    rounds.append(measure(engine, size, Path(folder)))
            if arguments.what in {"all", "ledger"}:
                with tempfile.TemporaryDirectory(prefix="ledger-bench-") as folder:
                    rows += ledger.measure(engine, ledger.LedgerSize(arguments.seconds), Path(folder))
            if arguments.what in {"all", "crowd"}:
                with tempfile.TemporaryDirectory(prefix="crowd-bench-") as folder:
                    crowds.append(crowd.measure(engine, arguments.streams, Path(folder)))
            if arguments.what in {"all", "staff"}:
                with tempfile.TemporaryDirectory(prefix="staff-bench-") as folder:
                    pages.append(staff.measure(engine, arguments.rows, Path(folder)))
    except (BenchmarkError, PostgresUnavailableError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    results = Results(size, [figures(result, size) for result in rounds], rounds, rows, crowds, pages)
    if arguments.json is not None:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    return tell(results)


def tell(results: Results) -> int:
    """Print the tables of what was measured. Gives the exit status."""
    tables = [report.table(results.figures, results.size)] if results.figures else []
    tables += [ledger.table(results.ledger)] if results.ledger else []
    tables += [crowd.table(results.crowds)] if results.crowds else []
    tables += [staff.table(results.staff)] if results.staff else []
    print("\n\n".join(tables))
    verdicts = [*report.verdicts(results.figures), *crowd.verdicts(results.crowds)]
    return 0 if all(verdict.is_met for verdict in verdicts) else 1


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The performance budget, measured.")
    parser.add_argument("what", nargs="?", choices=["all", "gateway", "ledger", "crowd", "staff"], default="all")
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="both")
    parser.add_argument("--requests", type=_positive, default=10_000, help="whole answers in a round (default: 10000)")
    parser.add_argument("--in-flight", type=_positive, default=64, help="requests open at once (default: 64)")
    parser.add_argument("--rounds", type=_positive, default=3, help="rounds of each load (default: 3)")
    parser.add_argument("--seconds", type=_positive, default=5, help="time for each row of the ledger (default: 5)")
    parser.add_argument("--streams", type=_positive, default=1000, help="slow streams of the crowd (default: 1000)")
    parser.add_argument("--rows", type=_positive, default=1_000_000, help="requests behind the staff pages (default: 1000000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure and round to a file")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(_main())
