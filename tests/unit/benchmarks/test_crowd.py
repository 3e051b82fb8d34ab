from __future__ import annotations

import msgspec
import pytest

from benchmarks.crowd import CrowdResult, percentile_ms, table
from benchmarks.processes import BenchmarkError

RESULT = CrowdResult(
    engine="sqlite",
    streams=1000,
    seconds=30.0,
    idle_p99_ms=1.0,
    lag_p50_ms=2.0,
    lag_p99_ms=99.9,
    lag_most_ms=140.0,
    before_bytes=100 * 2**20,
    peak_bytes=100 * 2**20 + 40_960_000,
    chunk_us=60.0,
    first_p99_ms=80.0,
)


def test_the_memory_of_a_stream_is_what_came_on_top():
    assert RESULT.stream_bytes == 40_960
    assert "memory of a stream, KB: 40.0 (100 MB before, 139 MB at the most)" in table([RESULT])


@pytest.mark.parametrize(("lag_ms", "verdict"), [(100.0, "met "), (100.1, "NOT MET")])
def test_the_lag_is_held_against_its_budget(lag_ms, verdict):
    last = table([msgspec.structs.replace(RESULT, lag_p99_ms=lag_ms)]).splitlines()[-1]
    assert last.startswith(verdict)


def test_percentiles():
    times_s = [number / 1000 for number in range(100, 0, -1)]
    assert [percentile_ms(times_s, percent) for percent in (50, 99, 100)] == [50, 99, 100]
    assert percentile_ms([0.5], 99) == 500
    with pytest.raises(BenchmarkError):
        percentile_ms([], 99)
