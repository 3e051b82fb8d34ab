"""The load generator: `python -m benchmarks.load PLAN`, where the plan is JSON and so is the answer on standard output.

So many connections as requests are to be in flight, each of which sends its next request when the last is answered.
Every answer is checked: status 200, and whole. The first one that is not ends the run with exit status 1 and its bytes on
standard error, because a gateway that refuses is fast.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, cast

import httptools
import msgspec
import uvloop

_END_OF_EVENT = b"\n\n"
_DONE = b"data: [DONE]\n\n"
_EXCERPT_BYTES = 400


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. `events` is how many SSE events each answer has; 0 stands for whole answers.

    `ramp_s` spreads the first requests over that time. A run that takes longer than `timeout_s` has failed.
    """

    port: int
    key: str
    body: str
    requests: int
    in_flight: int
    events: int = 0
    ramp_s: float = 0.0
    timeout_s: float = 300.0


class LoadResult(msgspec.Struct, frozen=True):
    """Times in milliseconds, per request; `first_ms` is the time to the first byte of the body. `seconds` is the run's."""

    requests: int
    events: int
    seconds: float
    p50_ms: float
    p99_ms: float
    first_p50_ms: float
    first_p99_ms: float


class BadAnswerError(Exception):
    """An answer that is not 200, or not whole."""


def http_request(port: int, key: str, body: str) -> bytes:
    """The bytes of one request, with the headers a client library would send."""
    content = body.encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        f"host: 127.0.0.1:{port}\r\n"
        "accept: application/json\r\n"
        f"authorization: Bearer {key}\r\n"
        "content-type: application/json\r\n"
        "user-agent: benchmark/1\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class _Run:
    """The state all connections share."""

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.request = http_request(plan.port, plan.key, plan.body)
        self.unsent = plan.requests
        self.latencies: list[float] = []
        self.first_bytes: list[float] = []
        self.events = 0
        self.connections: list[_Connection] = []
        self.is_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self) -> bool:
        """Whether one more request is to be sent."""
        if not self.unsent or self.is_over.done():
            return False
        self.unsent -= 1
        return True

    def answered(self, latency_s: float, first_byte_s: float, events: int) -> None:
        self.latencies.append(latency_s)
        self.first_bytes.append(first_byte_s)
        self.events += events
        if len(self.latencies) == self.plan.requests and not self.is_over.done():
            self.is_over.set_result(None)

    def fail(self, message: str) -> None:
        if not self.is_over.done():
            self.is_over.set_exception(BadAnswerError(message))


class _Connection(asyncio.Protocol):
    """One connection, which has one request open at a time."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._transport = asyncio.Transport()
        self._sent_s = 0.0
        self._first_byte_s = 0.0
        self._events = 0
        self._excerpt = b""
        self._end = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._run.connections.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._run.fail(f"the connection was closed: {error or 'by the server'}")

    def close(self) -> None:
        self._transport.abort()

    def send_next(self) -> None:
        if self._run.take():
            self._first_byte_s = 0.0
            self._events = 0
            self._excerpt = self._end = b""
            self._sent_s = time.perf_counter()
            self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._run.fail(f"not HTTP: {error}")

    def on_body(self, data: bytes) -> None:
        if not self._first_byte_s:
            self._first_byte_s = time.perf_counter()
            self._excerpt = data[:_EXCERPT_BYTES]
        # An event's end may be cut in two by a read.
        self._events += (self._end[-1:] + data).count(_END_OF_EVENT)
        self._end = (self._end + data)[-len(_DONE) :]

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        status, expected = self._parser.get_status_code(), self._run.plan.events
        is_whole = (self._events == expected and self._end == _DONE) if expected else self._end.endswith(b"}")
        if status != 200 or not is_whole:
            self._run.fail(f"status {status}, {self._events} events of {expected}: {self._excerpt!r} ... {self._end!r}")
            return
        self._run.answered(now - self._sent_s, self._first_byte_s - self._sent_s, self._events)
        self.send_next()


async def generate(plan: LoadPlan) -> LoadResult:
    """Send everything the plan says. Raises BadAnswerError, TimeoutError or OSError."""
    loop = asyncio.get_running_loop()
    run = _Run(plan)
    try:
        async with asyncio.timeout(plan.timeout_s):
            for _ in range(plan.in_flight):
                await loop.create_connection(lambda: _Connection(run), "127.0.0.1", plan.port)
            started_s = time.perf_counter()
            for position, connection in enumerate(run.connections):
                loop.call_later(plan.ramp_s * position / plan.in_flight, connection.send_next)
            await run.is_over
            seconds = time.perf_counter() - started_s
    finally:
        for connection in run.connections:
            connection.close()
    return LoadResult(
        len(run.latencies),
        run.events,
        seconds,
        *(_percentile_ms(run.latencies, percent) for percent in (50, 99)),
        *(_percentile_ms(run.first_bytes, percent) for percent in (50, 99)),
    )


def _percentile_ms(times_s: list[float], percent: int) -> float:
    """By nearest rank."""
    ranked = sorted(times_s)
    return ranked[-(-len(ranked) * percent // 100) - 1] * 1000


def _main(arguments: list[Any]) -> int:
    plan = msgspec.json.decode(arguments[0], type=LoadPlan)
    try:
        result = uvloop.run(generate(plan))
    except (BadAnswerError, TimeoutError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    sys.stdout.write(msgspec.json.encode(result).decode())
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
