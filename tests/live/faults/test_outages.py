"""What the gateway depends on goes away in mid-load and comes back: nothing is lost, and nothing starts that is not held."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.fakes.launch import FakeProvider
from tests.live.faults.siege import Siege
from tests.live.faults.traffic import Answered, Traffic, script
from tests.live.gateway import Server

pytestmark = pytest.mark.slow

CALM_S = 1.0


@pytest.fixture(autouse=True)
def _willing(provider: FakeProvider) -> None:
    script(provider)


def outcomes(answers: list[Answered]) -> Counter[tuple[int, str]]:
    return Counter((answered.status, answered.code) for answered in answers)


@pytest.mark.parametrize(
    ("times", "away_s"),
    [pytest.param(1, 2.5, id="short"), pytest.param(10, 10.0, id="long", marks=[pytest.mark.long, pytest.mark.timeout(900)])],
)
def test_the_database_stops(siege: Siege, times: int, away_s: float):
    """Clients are told to come again; who was served before waits for the books and is told what they say."""
    with siege.server() as server:
        for _ in range(times):
            script(siege.provider)
            with Traffic(server.port, siege.keys["counted"]) as traffic:
                time.sleep(CALM_S)
                siege.postgres.halt()
                with Traffic(server.port, siege.keys["counted"], people=2) as newcomers:
                    time.sleep(away_s)
                siege.postgres.resume()
                time.sleep(CALM_S)
                before = len(traffic.answers)
                while len(traffic.answers) < before + 20:
                    time.sleep(0.05)
            seen = outcomes(traffic.answers)
            assert set(seen) <= {(200, ""), (200, "ledger_unavailable"), (503, "ledger_unavailable")}, seen
            assert seen[200, ""] >= 20
            assert outcomes(newcomers.answers).keys() == {(503, "ledger_unavailable")}
            refused = [answered for answered in (*traffic.answers, *newcomers.answers) if answered.status == 503]
            assert {answered.headers["retry-after"] for answered in refused} == {"2"}
            siege.assert_quiet()
            siege.assert_accounted_for(traffic.answers)


@pytest.mark.parametrize(
    "requests",
    [pytest.param(80, id="short"), pytest.param(2000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(600)])],
)
def test_redis_stops_is_emptied_and_hangs(siege: Siege, fortress: Server, requests: int):
    with Traffic(fortress.port, siege.keys["counted"]) as traffic:
        for trouble in (siege.redis.stop, siege.redis.start, siege.redis.flush, siege.redis.freeze, siege.redis.thaw):
            trouble()
            before = len(traffic.answers)
            while len(traffic.answers) < before + requests / 5:
                time.sleep(0.02)
    assert outcomes(traffic.answers).keys() == {(200, "")}
    degraded = ["x-ratelimit-degraded" in answered.headers for answered in traffic.answers]
    assert 0 < sum(degraded) < len(degraded)
    siege.assert_quiet()
    siege.assert_accounted_for(traffic.answers)
