"""Servers that are told to stop, and workers that are replaced, in mid-load: what runs ends as it should."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.faults.siege import PATIENT, Siege
from tests.live.faults.traffic import Traffic, script
from tests.live.gateway import Server
from tests.live.test_killing import charge_in
from tests.live.wire import WireClient

pytestmark = pytest.mark.slow

STREAMS = 50
STREAM = {"model": "slow", "messages": [{"role": "user", "content": "Go on."}], "stream": True}
REPLACED_WITHIN_S = 90.0


@pytest.mark.parametrize(
    ("least_s", "most_s"),
    [pytest.param(1, 3, id="short"), pytest.param(5, 30, id="long", marks=[pytest.mark.long, pytest.mark.timeout(300)])],
)
def test_fifty_streams_end_well(siege: Siege, provider: FakeProvider, least_s: float, most_s: float):
    """Of one process of two, and each of them is paid as it says."""
    words = 20
    pauses = [(least_s + (most_s - least_s) * number / STREAMS) / words for number in range(STREAMS)]
    provider.script("slow", *[Script(text="word " * words, delay_between_s=pause_s) for pause_s in pauses])
    with (
        contextlib.ExitStack() as clients,
        ThreadPoolExecutor(STREAMS) as threads,
        siege.server(workers=2, **PATIENT) as server,
    ):
        streams = [
            clients.enter_context(WireClient(server.port, siege.keys["acme"], STREAM, x_request_id=f"drain-{number}"))
            for number in range(STREAMS)
        ]
        for stream in streams:
            assert stream.read_head()[0] == 200
        server.terminate()
        ends = list(threads.map(WireClient.read_rest, streams))
        assert server.stop() == 0
    assert [end[-1] for end in ends] == [b"data: [DONE]"] * STREAMS
    siege.assert_quiet()
    with siege.books() as books:
        for number, end in enumerate(ends):
            booked = books.of_request(f"drain-{number}")
            assert (booked.end_state, booked.charged_microcredits) == ("done", charge_in(end[-2].removeprefix(b"data: ")))


def test_a_stream_that_takes_too_long_is_ended(siege: Siege, provider: FakeProvider, label: str):
    """By an event that says so; what was delivered is paid."""
    provider.script("slow", Script(text="word " * 1000, delay_between_s=0.05))
    with siege.server(workers=1, DRAIN_LIMIT_S="0.5", **PATIENT) as server:
        with WireClient(server.port, siege.keys["acme"], STREAM, x_request_id=label) as client:
            client.read_head()
            client.read_contents(2)
            server.terminate()
            events = client.read_rest()
        assert server.stop() == 0
    assert b'"server_draining"' in events[-1]
    siege.assert_quiet()
    with siege.books() as books:
        booked = books.of_request(label)
    assert (booked.end_state, booked.states) == ("drained", ["settled"])
    assert booked.charged_microcredits == booked.entry_microcredits > 0


@pytest.mark.parametrize(
    "times", [pytest.param(1, id="short"), pytest.param(20, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_workers_are_replaced_under_load(siege: Siege, times: int):
    """By SIGHUP, one after the other: some requests are told to come again, and no answer is lost."""
    script(siege.provider)
    with siege.server(workers=2, **PATIENT) as server:
        with Traffic(server.port, siege.keys["counted"]) as traffic:
            for _ in range(times):
                replace_workers(server)
        outcomes = {(answered.status, answered.code) for answered in traffic.answers}
        assert outcomes <= {(200, ""), (503, "server_draining")}, {answered.fault for answered in traffic.answers}
        assert {answered.headers["retry-after"] for answered in traffic.answers if answered.status == 503} <= {"1"}
        siege.assert_quiet()
        siege.assert_accounted_for(traffic.answers)


def test_a_server_that_replaces_its_workers_hears_that_it_is_to_end(siege: Siege, provider: FakeProvider):
    """Nobody else is replaced then, and whatever runs ends as it should, also at the worker that was leaving already."""
    words, streams = 30, 12
    provider.script("slow", Script(text="word " * words, delay_between_s=6 / words))
    with (
        contextlib.ExitStack() as clients,
        ThreadPoolExecutor(streams) as threads,
        siege.server(workers=2, **PATIENT) as server,
    ):
        server.wait_for_workers(2)
        open_streams = [clients.enter_context(WireClient(server.port, siege.keys["acme"], STREAM)) for _ in range(streams)]
        for stream in open_streams:
            assert stream.read_head()[0] == 200
        server.replace_workers()
        server.wait_for_workers(3)
        time.sleep(0.5)
        server.terminate()
        ends = list(threads.map(WireClient.read_rest, open_streams))
        assert server.stop() == 0
        assert server.log_text().count("models can be called") == 3
    assert [end[-1] for end in ends] == [b"data: [DONE]"] * streams
    siege.assert_quiet()


def replace_workers(server: Server) -> None:
    old = server.worker_pids()
    server.replace_workers()
    deadline = time.monotonic() + REPLACED_WITHIN_S
    while len(new := server.worker_pids()) != len(old) or old & new:
        assert time.monotonic() < deadline, server.log_text()
        time.sleep(0.05)
