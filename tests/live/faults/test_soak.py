"""A server that is used for a long time while everything around it fails in turn: it errs on nobody, and it does not grow."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.fakes.network import BlackHole, Corrupt, Down, HalfClose, Latency, Limit, Reset, Slicer, Toxic
from tests.live.faults.siege import PLACES, Siege
from tests.live.faults.traffic import Answered, Traffic, script
from tests.live.gateway import Server

FAULTS: tuple[Toxic, ...] = (BlackHole(), Corrupt(), Down(), HalfClose(60), Latency(0.2), Limit(60), Reset(), Slicer())
EXPECTED = {
    *("upstream_error", "upstream_timeout", "upstream_invalid_response", "model_overloaded"),
    *("ledger_unavailable", "storage_unavailable", "image_fetch_failed", "rate_limit_exceeded"),
}
"""What a client may be told while something around the gateway fails. Whatever else it is told is our fault."""
MOST_OUR_SHARE = 0.001
PEOPLE = 6


class Size:
    """Of all processes of a server: resident memory, and the descriptors of each."""

    def __init__(self, server: Server) -> None:
        parent = psutil.Process(server.pid)
        processes = [parent, *parent.children(recursive=True)]
        self.resident_bytes = sum(process.memory_info().rss for process in processes)
        self.descriptors = sum(process.num_fds() for process in processes)


def assail(siege: Siege, choices: random.Random, total_s: float, every_s: float) -> None:
    """Half of the time something fails, each time something else."""
    ends_s = time.monotonic() + total_s
    while time.monotonic() < ends_s:
        with siege.networks[choices.choice(PLACES)].suffering(choices.choice(FAULTS)):
            time.sleep(every_s / 2)
        time.sleep(every_s / 2)


@pytest.mark.parametrize(
    ("total_s", "every_s", "most_growth"),
    [
        pytest.param(15.0, 2.0, 0.10, id="short"),
        pytest.param(1200.0, 20.0, 0.05, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
def test_a_soak(
    siege: Siege,
    total_s: float,
    every_s: float,
    most_growth: float,
    record_property: Callable[[str, object], None],
):
    """The size is taken when all is well and nobody asks: after a beginning that has seen some faults, and at the end."""
    script(siege.provider)
    parts: tuple[Any, ...] = ({"type": "image_url", "image_url": {"url": siege.image_url}},)
    choices, sizes, answers = random.Random(int(total_s)), list[Size](), list[Answered]()
    with siege.server(workers=2) as server:
        for phase_s in (total_s * 0.3, total_s * 0.7):
            with Traffic(server.port, siege.keys["counted"], people=PEOPLE, parts=parts) as traffic:
                assail(siege, choices, phase_s, every_s)
            answers += traffic.answers
            siege.assert_quiet()
            sizes.append(Size(server))
    ours = [answered for answered in answers if answered.status == 0 or (answered.code and answered.code not in EXPECTED)]
    assert len(ours) <= MOST_OUR_SHARE * len(answers), ours[:10]
    assert sum(answered.is_whole for answered in answers) > len(answers) / 4
    before, after = sizes
    for name, figure in (
        ("answers", len(answers)),
        ("whole", sum(answered.is_whole for answered in answers)),
        ("by_our_fault", len(ours)),
        ("resident_kib", [size.resident_bytes // 1024 for size in sizes]),
        ("descriptors", [size.descriptors for size in sizes]),
    ):
        record_property(name, figure)
        sys.stdout.write(f"{name}: {figure}\n")  # pytest -rA shows it
    assert after.resident_bytes <= before.resident_bytes * (1 + most_growth)
    assert after.descriptors <= before.descriptors + PEOPLE  # connections that wait to be used again
    siege.assert_accounted_for(answers)
