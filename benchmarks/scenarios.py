"""What is measured of the gateway on one database engine.

Every scenario runs a few rounds, and rounds of what is compared alternate, so that a machine that slows down slows both.
CPU time is that of the process under test only; the load generator, the provider and the database are other processes.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks.gateway import MODEL, Installation
from benchmarks.load import LoadPlan, LoadResult, http_request
from benchmarks.processes import BenchmarkError, Server, cpu_seconds, run_load
from tests.fakes.ports import free_port
from tests.postgres import PostgresServer

PACE_MS = 20
LONGER = 4
"""How many times longer the long streams are, of which there are as many times fewer."""
WHOLE_TIMES = 3
"""How many times more rounds there are of whole answers, which are short: what one round of them costs the gateway varies by a
fifth, beside a bare answer that hardly varies."""
EVENTS_BESIDES_CONTENT = 4  # role, finish reason, usage, [DONE]: the provider's stream and the gateway's alike
FIRST_ANSWER_TIMEOUT_S = 30.0
SYSTEM_PROMPT = (
    "You are the assistant of a book-keeping office. Answer in plain words, in at most three sentences, and say so when "
    "a question is not about accounts."
)


class Size(msgspec.Struct, frozen=True):
    """How much of each is sent in one round. Streams have `events` chunks."""

    rounds: int
    requests: int
    in_flight: int
    alone_requests: int
    paced_streams: int
    burst_streams: int
    events: int


class Sample(msgspec.Struct, frozen=True):
    """One round: what the client saw, and the CPU seconds it took the process under test and the database."""

    load: LoadResult
    cpu_s: float
    database_cpu_s: float = 0.0

    @property
    def cpu_us_per_request(self) -> float:
        return self.cpu_s / self.load.requests * 1e6


class EngineResult(msgspec.Struct, frozen=True):
    """All rounds on one engine. `direct` samples asked the provider itself, `long` ones for streams that are LONGER."""

    engine: str
    cold_start_s: float
    answer_bytes: int
    bare: list[Sample]
    whole: list[Sample]
    alone_direct: list[Sample]
    alone: list[Sample]
    paced_direct: list[Sample]
    paced: list[Sample]
    paced_long: list[Sample]
    burst: list[Sample]
    burst_long: list[Sample]


@contextmanager
def database(engine: str) -> Iterator[tuple[str, int | None]]:
    """The URL and the process of the database; SQLite has neither."""
    if engine == "sqlite":
        yield "", None
        return
    server = PostgresServer(is_durable=True)
    server.start()
    try:
        yield server.url, server.process_id
    finally:
        server.stop()


def measure(engine: str, size: Size, folder: Path) -> EngineResult:
    """Everything about one engine, on a fresh gateway in `folder`. Raises BenchmarkError if an answer is not right."""
    with ExitStack() as stack:
        database_url, database_id = stack.enter_context(database(engine))
        provider_port = free_port()
        arguments = ["-m", "benchmarks.provider", "--port", str(provider_port)]
        provider = stack.enter_context(Server(arguments, provider_port, folder / "provider.log"))
        installation = Installation(folder, provider_port, database_url)
        started_s = time.monotonic()
        gateway = stack.enter_context(installation.server())
        answer = first_answer(gateway.port, installation.key)
        cold_start_s = time.monotonic() - started_s
        body = folder / "answer.json"
        body.write_bytes(answer)
        bare_port = free_port()
        arguments = ["-m", "benchmarks.bare", "--port", str(bare_port), "--body", str(body)]
        bare = stack.enter_context(Server(arguments, bare_port, folder / "bare.log"))
        scenarios = Scenarios(size, installation.key, database_id)
        for server in (gateway, bare, provider):
            scenarios.warm_up(server)
        whole = scenarios.rounds(
            "whole answers, bare and gateway", lambda: [scenarios.whole(s) for s in (bare, gateway)], WHOLE_TIMES
        )
        alone = scenarios.rounds("one at a time", lambda: [scenarios.alone(s) for s in (provider, gateway)])
        paced = scenarios.rounds(
            "paced streams", lambda: [scenarios.paced(provider), *_of_both_lengths(scenarios.paced, gateway)]
        )
        burst = scenarios.rounds("streams in a burst", lambda: _of_both_lengths(scenarios.burst, gateway))
    return EngineResult(engine, cold_start_s, len(answer), *whole, *alone, *paced, *burst)


class Scenarios:
    """The kinds of load. `database_id` is the process whose CPU time is read beside the gateway's."""

    def __init__(self, size: Size, key: str, database_id: int | None) -> None:
        self._size = size
        self._key = key
        self._database_id = database_id

    def rounds(self, name: str, one_round: Callable[[], list[Sample]], times: int = 1) -> list[list[Sample]]:
        """The samples of each server over all rounds, `times` as many as usual."""
        samples = []
        for number in range(1, self._size.rounds * times + 1):
            sys.stderr.write(f"  {name}: round {number} of {self._size.rounds * times}\n")
            samples.append(one_round())
        return [list(of_server) for of_server in zip(*samples, strict=True)]

    def warm_up(self, server: Server) -> None:
        self._run(server, request_body(), self._size.requests // 4, self._size.in_flight)

    def whole(self, server: Server) -> Sample:
        """Whole answers, many at a time."""
        return self._run(server, request_body(), self._size.requests, self._size.in_flight)

    def alone(self, server: Server) -> Sample:
        """Whole answers, one at a time: latency without a queue."""
        return self._run(server, request_body(), self._size.alone_requests, 1)

    def paced(self, server: Server, longer: int = 1) -> Sample:
        """Streams whose events come one by one, as a model makes them. Their callers do not begin all at once."""
        return self._streams(server, self._size.paced_streams, longer, pace_ms=PACE_MS, ramp_s=1.0)

    def burst(self, server: Server, longer: int = 1) -> Sample:
        """Streams that come as fast as they can be written."""
        return self._streams(server, self._size.burst_streams, longer)

    def _streams(self, server: Server, streams: int, longer: int, *, pace_ms: int = 0, ramp_s: float = 0.0) -> Sample:
        events = self._size.events * longer
        body = request_body(events, pace_ms)
        return self._run(server, body, streams // longer, self._size.in_flight, events=events, ramp_s=ramp_s)

    def _run(self, server: Server, body: str, requests: int, in_flight: int, *, events: int = 0, ramp_s: float = 0.0) -> Sample:
        plan = LoadPlan(
            port=server.port,
            key=self._key,
            body=body,
            requests=requests,
            in_flight=min(in_flight, requests),
            events=events + EVENTS_BESIDES_CONTENT if events else 0,
            ramp_s=ramp_s,
        )
        cpu_before_s, database_before_s = cpu_seconds(server.process_id), self._database_cpu_s()
        load = run_load(plan)
        cpu_s, database_cpu_s = cpu_seconds(server.process_id), self._database_cpu_s()
        return Sample(load, cpu_s - cpu_before_s, database_cpu_s - database_before_s)

    def _database_cpu_s(self) -> float:
        return 0.0 if self._database_id is None else cpu_seconds(self._database_id)


def _of_both_lengths(scenario: Callable[[Server, int], Sample], server: Server) -> list[Sample]:
    return [scenario(server, longer) for longer in (1, LONGER)]


def request_body(events: int = 0, pace_ms: int = 0) -> str:
    """A chat request of a usual size. With `events` it asks for a stream, in words that the provider understands."""
    prompt = f"What does double-entry mean, and who is helped by it? [events={events} pace_ms={pace_ms}]"
    body = {
        "model": MODEL,
        "messages": [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": prompt}],
        "temperature": 0.2,
        "max_tokens": 512,
    }
    if events:
        body["stream"] = True
    return json.dumps(body, separators=(",", ":"))


def first_answer(port: int, key: str) -> bytes:
    """The body of one whole answer, asked of a server that listens. Raises BenchmarkError if it is not 200."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=FIRST_ANSWER_TIMEOUT_S) as connection:
        connection.sendall(http_request(port, key, request_body()).replace(b"accept:", b"connection: close\r\naccept:"))
        while part := connection.recv(65_536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise BenchmarkError(f"the first answer is not 200: {answer[:1000]!r}")
    return body
