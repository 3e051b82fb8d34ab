"""The benchmark of the ledger measures what it says, and only where the books balance afterwards."""

from __future__ import annotations

import pytest

from benchmarks.ledger import IN_FLIGHT, LedgerRow, LedgerSize, measure, table
from tests.migrated import copy_sqlite


@pytest.mark.slow
def test_a_small_run_has_every_row(tmp_path):
    copy_sqlite(tmp_path / "gateway.sqlite3")  # which leaves it little to migrate
    rows = measure("sqlite", LedgerSize(seconds=0.2, processes=2, shared_in_flight=3), tmp_path)
    assert [(row.processes, row.in_flight) for row in rows] == [*((1, number) for number in IN_FLIGHT), (2, 3)]
    for row in rows:
        assert min(row.pairs_per_s, row.cpu_us) > 0
        assert 0 < row.p50_ms <= row.p99_ms


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_the_table_has_a_line_for_each_row(engine):
    rows = [LedgerRow(engine, 8, 16, 1234.4, 98.76, 54.32, 1.234, 56.789)]
    assert " ".join(table(rows).splitlines()[-1].split()) == f"{engine} 8 16 1,234 98.8 54.3 1.23 56.79"
