"""Many slow streams at once on one worker: how late its event loop is, and what memory each of them takes.

The lag is what a request that needs next to no work waits for its answer: an OPTIONS of the chat endpoint, which the loop
answers by itself. One is sent every few milliseconds on a connection of its own, before the streams begin and while they
run, so that the figures of the idle server tell what is the machine's.
"""

from __future__ import annotations

import math
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import psutil

from benchmarks.gateway import Installation
from benchmarks.load import LoadPlan
from benchmarks.processes import BenchmarkError, Server, cpu_seconds, run_load
from benchmarks.scenarios import EVENTS_BESIDES_CONTENT, database, first_answer, request_body
from benchmarks.verdicts import Verdict
from tests.fakes.ports import free_port

PACE_MS = 500
EVENTS = 40
STREAMS_A_SECOND = 200
IDLE_S = 2.0
PROBE_EVERY_S = 0.01
PROBE_TIMEOUT_S = 30.0
LAG_MOST_MS = 100.0
STREAM_MOST_KIB = 60.0

_PROBE = b"OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n"


class CrowdResult(msgspec.Struct, frozen=True, kw_only=True):
    """Memory is resident, in bytes; `peak_bytes` while the streams ran. `shared_us` is the CPU of a stream over its chunks."""

    engine: str
    streams: int
    seconds: float
    idle_p99_ms: float
    lag_p50_ms: float
    lag_p99_ms: float
    lag_most_ms: float
    before_bytes: int
    peak_bytes: int
    shared_us: float
    first_p99_ms: float

    @property
    def stream_bytes(self) -> float:
        return (self.peak_bytes - self.before_bytes) / self.streams


class Probe:
    """Asks for next to nothing while the block runs. `waits_s` are its waits, `peak_bytes` the most memory it saw in use."""

    def __init__(self, server: Server) -> None:
        self.waits_s: list[float] = []
        self.peak_bytes = 0
        self._port = server.port
        self._process = psutil.Process(server.process_id)
        self._is_over = threading.Event()
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_over.set()
        self._thread.join()
        if self._fault is not None and error is None:
            raise BenchmarkError("the probe was not answered") from self._fault

    def _run(self) -> None:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=PROBE_TIMEOUT_S) as connection:
                while not self._is_over.wait(PROBE_EVERY_S):
                    sent_s = time.perf_counter()
                    connection.sendall(_PROBE % self._port)
                    _read_answer(connection)
                    self.waits_s.append(time.perf_counter() - sent_s)
                    self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
        except (OSError, BenchmarkError, psutil.Error) as fault:
            self._fault = fault


def _read_answer(connection: socket.socket) -> None:
    """Head and body may come one after the other. Raises BenchmarkError if it is refused."""
    answer = b""
    while not answer.endswith(b"\r\n\r\n{}"):
        part = connection.recv(65_536)
        answer += part
        if not part or not answer.startswith(b"HTTP/1.1 200 "):
            raise BenchmarkError(f"the probe was refused: {answer[:1000]!r}")


def measure(engine: str, streams: int, folder: Path) -> CrowdResult:
    """On a fresh gateway in `folder`. Raises BenchmarkError if a stream is not whole."""
    with ExitStack() as stack:
        database_url, _ = stack.enter_context(database(engine))
        provider_port = free_port()
        arguments = ["-m", "benchmarks.provider", "--port", str(provider_port)]
        stack.enter_context(Server(arguments, provider_port, folder / "provider.log"))
        installation = Installation(folder, provider_port, database_url)
        gateway = stack.enter_context(installation.server())
        first_answer(gateway.port, installation.key)
        plan = LoadPlan(
            port=gateway.port,
            key=installation.key,
            body=request_body(EVENTS, PACE_MS),
            requests=streams,
            in_flight=streams,
            events=EVENTS + EVENTS_BESIDES_CONTENT,
            ramp_s=streams / STREAMS_A_SECOND,
        )
        # What a worker makes once it keeps: a few streams first.
        run_load(msgspec.structs.replace(plan, requests=20, in_flight=20, body=request_body(EVENTS, 1), ramp_s=0.0))
        sys.stderr.write(f"  {streams} slow streams\n")
        with Probe(gateway) as idle:
            time.sleep(IDLE_S)
        cpu_before_s = cpu_seconds(gateway.process_id)
        with Probe(gateway) as probe:
            load = run_load(plan)
        cpu_s = cpu_seconds(gateway.process_id) - cpu_before_s
    return CrowdResult(
        engine=engine,
        streams=streams,
        seconds=load.seconds,
        idle_p99_ms=percentile_ms(idle.waits_s, 99),
        lag_p50_ms=percentile_ms(probe.waits_s, 50),
        lag_p99_ms=percentile_ms(probe.waits_s, 99),
        lag_most_ms=percentile_ms(probe.waits_s, 100),
        before_bytes=idle.peak_bytes,
        peak_bytes=probe.peak_bytes,
        shared_us=cpu_s * 1e6 / (streams * EVENTS),
        first_p99_ms=load.first_p99_ms,
    )


def percentile_ms(times_s: Sequence[float], percent: int) -> float:
    """The least time that so many percent do not exceed."""
    if not times_s:
        raise BenchmarkError("nothing was measured")
    return sorted(times_s)[math.ceil(len(times_s) * percent / 100) - 1] * 1000


def verdicts(results: Sequence[CrowdResult]) -> list[Verdict]:
    """Of each engine how late its loop was, and what a stream took."""
    return [
        verdict
        for result in results
        for verdict in (
            Verdict(engine=result.engine, name="event-loop lag, p99", value=result.lag_p99_ms, limit=LAG_MOST_MS, unit="ms"),
            Verdict(
                engine=result.engine,
                name="memory of a stream",
                value=result.stream_bytes / 1024,
                limit=STREAM_MOST_KIB,
                unit="KiB",
            ),
        )
    ]


def table(results: Sequence[CrowdResult]) -> str:
    lines = [f"slow streams at once, one worker; {EVENTS} chunks {PACE_MS} ms apart"]
    for result in results:
        lines += [
            "",
            f"{result.engine}: {result.streams} streams in {result.seconds:.1f} s, all whole",
            f"  event-loop lag ms: p50 {result.lag_p50_ms:.1f}, p99 {result.lag_p99_ms:.1f}, most {result.lag_most_ms:.1f}"
            f" (idle p99 {result.idle_p99_ms:.1f})",
            f"  memory of a stream, KiB: {result.stream_bytes / 1024:.1f}"
            f" ({result.before_bytes / 2**20:.0f} MiB before, {result.peak_bytes / 2**20:.0f} MiB at the most)",
            f"  CPU of a stream by chunk, us: {result.shared_us:.1f}; time to the first byte, p99 ms: {result.first_p99_ms:.1f}",
        ]
    return "\n".join([*lines, "", *(verdict.line() for verdict in verdicts(results))])
