from __future__ import annotations

import pytest

from benchmarks.__main__ import Results, tell
from benchmarks.load import LoadResult
from benchmarks.report import BUDGETS, figures, table, verdicts
from benchmarks.scenarios import EngineResult, Sample, Size

SIZE = Size(rounds=3, requests=1000, in_flight=64, alone_requests=10, paced_streams=10, burst_streams=10, events=100)


def sample(cpu_s: float, *, requests: int = 1000, p50_ms: float = 1.0, database_cpu_s: float = 0.0) -> Sample:
    return Sample(LoadResult(requests, 0, 2.0, p50_ms, 9.0, p50_ms, 5.0), cpu_s, database_cpu_s)


def result(**samples: list[Sample]) -> EngineResult:
    streams, long_streams = [sample(0.05, requests=10)] * 3, [sample(0.14, requests=10)] * 3
    given = {
        "bare": [sample(0.03)] * 3,
        "whole": [sample(0.18)] * 3,
        "alone_direct": [sample(0.0, p50_ms=0.25)] * 3,
        "alone": [sample(0.0, p50_ms=1.5)] * 3,
        "paced_direct": streams,
        "paced": streams,
        "paced_long": long_streams,
        "burst": streams,
        "burst_long": long_streams,
    }
    return EngineResult(engine="sqlite", cold_start_s=1.0, answer_bytes=600, **(given | samples))


def test_the_ratio_is_taken_within_each_round_before_the_median():
    """A machine that slowed down for one round slowed both servers, which says nothing about the ratio."""
    slow_machine = result(bare=[sample(0.03), sample(0.09), sample(0.03)], whole=[sample(0.18), sample(0.54), sample(0.21)])
    assert figures(slow_machine, SIZE).ratio == pytest.approx(6)


def test_a_chunk_is_told_from_its_stream_within_each_round():
    """Streams of 100 chunks in 5 ms, of 400 in 14 ms: 300 chunks are 9 ms. One round was on a machine half as fast."""
    rounds = {
        "paced": [sample(0.05, requests=10), sample(0.1, requests=10), sample(0.05, requests=10)],
        "paced_long": [sample(0.14, requests=10), sample(0.28, requests=10), sample(0.14, requests=10)],
    }
    of_engine = figures(result(**rounds), SIZE)
    assert of_engine.paced_chunk_us == pytest.approx(30)
    assert of_engine.paced_stream_us == pytest.approx(2000)
    assert of_engine.paced_shared_us == pytest.approx(50)
    assert of_engine.paced_chunk_ratio == pytest.approx(1)


@pytest.mark.parametrize(("bare_s", "is_told"), [(0.036, False), (0.0361, True)])
def test_a_machine_slower_than_the_one_of_the_limits_is_told(bare_s, is_told):
    told = table([figures(result(bare=[sample(bare_s)] * 3), SIZE)], SIZE)
    assert ("A bare answer takes up to 36.1 us here" in told) == is_told


def test_added_latency_is_the_difference_to_the_provider_itself():
    assert figures(result(), SIZE).added_p50_ms == pytest.approx(1.25)


def test_the_database_server_is_reported_beside_the_gateway():
    measured = figures(result(whole=[sample(0.18, database_cpu_s=0.07)] * 3), SIZE)
    assert (measured.whole_us, measured.database_us) == (pytest.approx(180), pytest.approx(70))


@pytest.mark.parametrize(("whole_s", "verdict"), [(0.24, "met "), (0.2401, "NOT MET")])
def test_every_budget_has_its_verdict_and_the_exit_status_tells(whole_s, verdict):
    frugal = {"burst": [sample(0.005, requests=10)] * 3, "burst_long": [sample(0.02, requests=10)] * 3}
    measured = figures(result(whole=[sample(whole_s)] * 3, **frugal), SIZE)
    lines = table([measured], SIZE).splitlines()
    assert any(line.startswith(verdict) and "CPU against a bare ASGI answer" in line for line in lines)
    assert [one.name for one in verdicts([measured])] == [budget.name for budget in BUDGETS]
    assert all(one.is_met for one in verdicts([measured])[1:])
    assert tell(Results(SIZE, [measured], [], [], [], [])) == (verdict == "NOT MET")
