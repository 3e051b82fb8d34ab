from __future__ import annotations

import msgspec
import pytest

from benchmarks.__main__ import Results, tell
from benchmarks.crowd import CrowdResult, percentile_ms, table
from benchmarks.processes import BenchmarkError
from tests.unit.benchmarks.test_report import SIZE

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
    shared_us=60.0,
    first_p99_ms=80.0,
)


def test_the_memory_of_a_stream_is_what_came_on_top():
    assert RESULT.stream_bytes == 40_960
    assert "memory of a stream, KiB: 40.0 (100 MiB before, 139 MiB at the most)" in table([RESULT])


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"lag_p99_ms": 100.0}, ["met", "met"]),
        ({"lag_p99_ms": 100.1}, ["NOT MET", "met"]),
        ({"peak_bytes": RESULT.before_bytes + 1000 * 60 * 1024}, ["met", "met"]),
        ({"peak_bytes": RESULT.before_bytes + 1000 * 60 * 1024 + 1}, ["met", "NOT MET"]),
    ],
)
def test_lag_and_memory_are_held_against_their_budget(figures, words):
    """By a line each, and by the exit status."""
    result = msgspec.structs.replace(RESULT, **figures)
    lag, memory = table([result]).splitlines()[-2:]
    assert [line.split("  ")[0].strip() for line in (lag, memory)] == words
    assert ("event-loop lag" in lag, "memory of a stream" in memory) == (True, True)
    assert tell(Results(SIZE, [], [], [], [result], [])) == ("NOT MET" in words)


def test_percentiles():
    times_s = [number / 1000 for number in range(100, 0, -1)]
    assert [percentile_ms(times_s, percent) for percent in (50, 99, 100)] == [50, 99, 100]
    assert percentile_ms([0.5], 99) == 500
    with pytest.raises(BenchmarkError):
        percentile_ms([], 99)
