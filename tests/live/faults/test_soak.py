"""A server that is used for a long time while everything around it fails in turn: it errs on nobody, and it does not grow."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import psutil
import pytest

from tests.fakes import pdfs
from tests.fakes.network import BlackHole, Corrupt, Down, HalfClose, Latency, Limit, Reset, Slicer, Toxic
from tests.live.conftest import TIMEOUT_S
from tests.live.faults.siege import PLACES, Siege
from tests.live.faults.traffic import Answered, Traffic, script
from tests.live.gateway import Server

pytestmark = pytest.mark.slow

FAULTS: tuple[Toxic, ...] = (BlackHole(), Corrupt(), Down(), HalfClose(60), Latency(0.2), Limit(60), Reset(), Slicer())
EXPLAINS: dict[str, set[str]] = {
    "provider": {"upstream_error", "upstream_timeout", "upstream_invalid_response"},
    "database": {"ledger_unavailable"},
    "store": {"storage_unavailable"},
    "images": {"image_fetch_failed"},
    "redis": set(),
}
"""What a client may be told because of each place. Whatever else he is told, or at another time, is our fault."""
AFTER_S = 1.0
"""So long after a place has healed a request may still begin that fails: it meets a connection that was just lost."""
MOST_OUR_SHARE = 0.001
WORKERS = 2
PEOPLE = 6
WARM_UP_S = 2.0
"""In which each worker does once what takes memory for good."""
STORE_THREADS = 16
LET_GO_WITHIN_S = 60.0
"""A connection to a provider is kept for half a minute, and looked at every quarter."""


class Trouble(msgspec.Struct, frozen=True):
    """What a place had, from when until when, on the monotonic clock."""

    place: str
    fault: str
    from_s: float
    until_s: float

    def explains(self, answered: Answered) -> bool:
        """Whether that request, which was open meanwhile or came just after, may have gone wrong because of it."""
        is_near = self.from_s <= answered.answered_s and answered.asked_s <= self.until_s + AFTER_S
        return is_near and answered.code in EXPLAINS[self.place]


class Size(msgspec.Struct, frozen=True):
    """Of all processes of a server: resident memory, threads, and descriptors.

    `connections` are those to each place. Some are kept for whoever needs one next, as many as were needed at once before, so
    that what is lost of them shows against a bound and not as growth. `others` is all else that is open, but for the files of
    metrics, each of which a process opens at its first figure and keeps.
    """

    resident_bytes: int
    threads: int
    connections: Counter[str]
    others: int


def size_of(siege: Siege, server: Server) -> Size:
    places = {network.port: place for place, network in siege.networks.items()}
    parent = psutil.Process(server.pid)
    processes = [parent, *parent.children(recursive=True)]
    peers = [one.raddr.port for process in processes for one in process.net_connections("tcp4") if one.raddr]
    connections = Counter(places[port] for port in peers if port in places)
    metrics = [file for process in processes for file in process.open_files() if "gateway-metrics-" in file.path]
    open_now = sum(process.num_fds() for process in processes)
    return Size(
        sum(process.memory_info().rss for process in processes),
        sum(process.num_threads() for process in processes),
        connections,
        open_now - connections.total() - len(metrics),
    )


def assail(siege: Siege, choices: random.Random, total_s: float, every_s: float) -> list[Trouble]:
    """Half of the time something fails, each time something else."""
    troubles = []
    ends_s = time.monotonic() + total_s
    while time.monotonic() < ends_s:
        place, fault, from_s = choices.choice(PLACES), choices.choice(FAULTS), time.monotonic()
        with siege.networks[place].suffering(fault):
            time.sleep(every_s / 2)
        troubles.append(Trouble(place, type(fault).__name__, from_s, time.monotonic()))
        time.sleep(every_s / 2)
    return troubles


def parts_of(siege: Siege, server: Server) -> tuple[Any, ...]:
    """An image that is fetched, and a file that is stored."""
    answer = httpx.post(
        f"{server.base_url}/files",
        headers={"authorization": f"Bearer {siege.keys['counted']}"},
        data={"purpose": "user_data"},
        files={"file": ("a.pdf", pdfs.of_pages(["One page."]))},
        timeout=TIMEOUT_S,
        trust_env=False,
    )
    return (
        {"type": "image_url", "image_url": {"url": siege.image_url}},
        {"type": "file", "file": {"file_id": answer.json()["id"]}},
    )


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
    request: pytest.FixtureRequest,
):
    """The size is taken when all is well and nobody asks: after a beginning that has seen some faults, and at the end."""
    script(siege.provider)
    choices, sizes, answers, troubles = random.Random(int(total_s)), list[Size](), list[Answered](), list[Trouble]()
    with siege.server(workers=WORKERS) as server:
        parts = parts_of(siege, server)
        with Traffic(server.port, siege.keys["counted"], people=PEOPLE, parts=parts, parts_every_s=0.1) as traffic:
            time.sleep(WARM_UP_S)
        answers += traffic.answers
        for phase_s in (total_s * 0.3, total_s * 0.7):
            with Traffic(server.port, siege.keys["counted"], people=PEOPLE, parts=parts) as traffic:
                troubles += assail(siege, choices, phase_s, every_s)
            answers += traffic.answers
            siege.assert_quiet()
            sizes.append(size_of(siege, server))
        if request.node.get_closest_marker("long"):
            assert_lets_go(siege, server)
    wrong = [answered for answered in answers if not answered.is_whole]
    ours = [answered for answered in wrong if not any(trouble.explains(answered) for trouble in troubles)]
    for name, figure in (
        ("answers", len(answers)),
        ("whole", len(answers) - len(wrong)),
        ("by_our_fault", len(ours)),
        ("resident_kib", [size.resident_bytes // 1024 for size in sizes]),
        ("connections", [dict(size.connections) for size in sizes]),
        ("others", [size.others for size in sizes]),
    ):
        record_property(name, figure)
        sys.stdout.write(f"{name}: {figure}\n")  # pytest -rA shows it
    assert len(ours) <= MOST_OUR_SHARE * len(answers), (ours[:10], troubles)
    assert len(answers) - len(wrong) > len(answers) / 4
    siege.assert_accounted_for(answers)
    before, after = sizes
    assert_has_not_grown(before, after, most_growth)


def assert_has_not_grown(before: Size, after: Size, most_growth: float) -> None:
    """Not by a descriptor, and by no connection that is not kept for a reason."""
    assert after.resident_bytes <= before.resident_bytes * (1 + most_growth)
    assert after.others <= before.others
    kept = after.connections
    assert kept["images"] == 0
    assert kept["redis"] <= WORKERS, "one of each worker, for everything"
    assert kept["provider"] <= WORKERS * PEOPLE, "as many as were needed at once, by each worker"
    assert kept["store"] <= WORKERS * STORE_THREADS, "one of each thread that reads for requests"
    assert kept["database"] <= after.threads + WORKERS, "one of each thread at the most, and one of each ledger"


def assert_lets_go(siege: Siege, server: Server) -> None:
    """Of what nobody uses any more not one connection to the provider stays."""
    deadline = time.monotonic() + LET_GO_WITHIN_S
    while left := size_of(siege, server).connections["provider"]:
        assert time.monotonic() < deadline, f"{left} connections to the provider are left"
        time.sleep(0.5)
