"""Medians of the rounds, as a table, and the verdicts of the budget.

What a stream costs besides its chunks is what a request costs, and is limited as that: by the ratio of whole answers. Spread
over the chunks it would say how long the streams of a benchmark are. It is told all the same.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from statistics import median

import msgspec

from benchmarks.scenarios import LONGER, EngineResult, Sample, Size
from benchmarks.verdicts import Verdict


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What the rounds on one engine come to.

    CPU is of the gateway's process in microseconds, `database_us` of the server's beside it. A chunk is an event with
    content, and `*_chunk_us` what one more of it costs: the difference between a long stream and a short one, over the
    chunks that it has more. `*_stream_us` is what is left of a stream without its chunks: the request, its hold, its
    settlement. `*_shared_us` is all of a short stream over its chunks. `*ratio` is in bare answers;
    those that a paced chunk is held against are of other rounds.
    """

    engine: str
    cold_start_s: float
    answer_bytes: int
    bare_us: float
    whole_us: float
    ratio: float
    database_us: float
    requests_per_s: float
    whole_p50_ms: float
    whole_p99_ms: float
    added_p50_ms: float
    added_p99_ms: float
    paced_chunk_us: float
    paced_chunk_ratio: float
    paced_stream_us: float
    paced_shared_us: float
    paced_chunks_per_s: float
    added_first_p50_ms: float
    added_first_p99_ms: float
    burst_chunk_us: float
    burst_stream_us: float
    burst_shared_us: float


class Budget(msgspec.Struct, frozen=True):
    """`limits` by engine. `goal`, where there is one, is where the limit is to move."""

    name: str
    unit: str
    figure: Callable[[Figures], float]
    limits: dict[str, float]
    goal: float | None = None


def _both(limit: float) -> dict[str, float]:
    return {"sqlite": limit, "postgresql": limit}


BUDGETS = (
    Budget("whole answer, CPU against a bare ASGI answer", "x", lambda f: f.ratio, _both(8), goal=6),
    Budget("paced chunk, CPU", "us", lambda f: f.paced_chunk_us, _both(50), goal=40),
    Budget("chunk of a burst, CPU", "us", lambda f: f.burst_chunk_us, _both(6)),
    Budget("added latency at 1 in flight, p50", "ms", lambda f: f.added_p50_ms, {"sqlite": 1.5, "postgresql": 2.5}),
    Budget("added time to the first chunk, p99", "ms", lambda f: f.added_first_p99_ms, _both(10)),
    Budget("cold start to first answer", "s", lambda f: f.cold_start_s, _both(3)),
)

BARE_MOST_US = 36
"""What a bare answer took at the most where the limits that are times were set."""

_ROWS: tuple[tuple[str, str, int], ...] = (
    ("bare ASGI answer, CPU us", "bare_us", 1),
    ("whole answer, CPU us", "whole_us", 1),
    ("  ratio to bare", "ratio", 2),
    ("  database server, CPU us", "database_us", 1),
    ("  requests/s", "requests_per_s", 0),
    ("  p50 ms", "whole_p50_ms", 1),
    ("  p99 ms", "whole_p99_ms", 1),
    ("added at 1 in flight, p50 ms", "added_p50_ms", 2),
    ("added at 1 in flight, p99 ms", "added_p99_ms", 2),
    ("paced chunk, CPU us", "paced_chunk_us", 1),
    ("  ratio to bare", "paced_chunk_ratio", 2),
    ("  its stream besides, CPU us", "paced_stream_us", 0),
    ("  both, by chunk of a short stream", "paced_shared_us", 1),
    ("  chunks/s", "paced_chunks_per_s", 0),
    ("added to first chunk, p50 ms", "added_first_p50_ms", 2),
    ("added to first chunk, p99 ms", "added_first_p99_ms", 2),
    ("chunk of a burst, CPU us", "burst_chunk_us", 2),
    ("  its stream besides, CPU us", "burst_stream_us", 0),
    ("  both, by chunk of a short stream", "burst_shared_us", 2),
    ("cold start to first answer, s", "cold_start_s", 2),
)


def figures(result: EngineResult, size: Size) -> Figures:
    """The medians over the rounds; what is compared is compared within its round first, but for `paced_chunk_ratio`."""
    paced, paced_streams = _taken_apart(result.paced, result.paced_long, size.events)
    burst, burst_streams = _taken_apart(result.burst, result.burst_long, size.events)
    bare_us = median([sample.cpu_us_per_request for sample in result.bare])
    return Figures(
        engine=result.engine,
        cold_start_s=result.cold_start_s,
        answer_bytes=result.answer_bytes,
        bare_us=bare_us,
        whole_us=median([sample.cpu_us_per_request for sample in result.whole]),
        ratio=_compared(result.whole, result.bare, lambda ours, bare: ours.cpu_us_per_request / bare.cpu_us_per_request),
        database_us=median([sample.database_cpu_s / sample.load.requests * 1e6 for sample in result.whole]),
        requests_per_s=median([sample.load.requests / sample.load.seconds for sample in result.whole]),
        whole_p50_ms=median([sample.load.p50_ms for sample in result.whole]),
        whole_p99_ms=median([sample.load.p99_ms for sample in result.whole]),
        added_p50_ms=_compared(result.alone, result.alone_direct, lambda ours, direct: ours.load.p50_ms - direct.load.p50_ms),
        added_p99_ms=_compared(result.alone, result.alone_direct, lambda ours, direct: ours.load.p99_ms - direct.load.p99_ms),
        paced_chunk_us=median(paced),
        paced_chunk_ratio=median(paced) / bare_us,
        paced_stream_us=median(paced_streams),
        paced_shared_us=median([sample.cpu_us_per_request for sample in result.paced]) / size.events,
        paced_chunks_per_s=median([_chunks(sample, size.events) / sample.load.seconds for sample in result.paced]),
        added_first_p50_ms=_compared(
            result.paced, result.paced_direct, lambda ours, direct: ours.load.first_p50_ms - direct.load.first_p50_ms
        ),
        added_first_p99_ms=_compared(
            result.paced, result.paced_direct, lambda ours, direct: ours.load.first_p99_ms - direct.load.first_p99_ms
        ),
        burst_chunk_us=median(burst),
        burst_stream_us=median(burst_streams),
        burst_shared_us=median([sample.cpu_us_per_request for sample in result.burst]) / size.events,
    )


def _compared(ours: list[Sample], others: list[Sample], compare: Callable[[Sample, Sample], float]) -> float:
    return median([compare(our, other) for our, other in zip(ours, others, strict=True)])


def _chunks(sample: Sample, events: int) -> int:
    return sample.load.requests * events


def _taken_apart(short: list[Sample], long: list[Sample], events: int) -> tuple[list[float], list[float]]:
    """The CPU of a chunk and of a stream without its chunks, in each round; both are lines, so two lengths tell them."""
    chunks = [
        (longer.cpu_us_per_request - shorter.cpu_us_per_request) / (events * (LONGER - 1))
        for shorter, longer in zip(short, long, strict=True)
    ]
    return chunks, [sample.cpu_us_per_request - events * chunk for sample, chunk in zip(short, chunks, strict=True)]


def verdicts(all_figures: Sequence[Figures]) -> list[Verdict]:
    """Of each engine every line of the budget."""
    return [
        Verdict(
            engine=of_engine.engine,
            name=budget.name,
            value=budget.figure(of_engine),
            limit=budget.limits[of_engine.engine],
            unit=budget.unit,
            goal=budget.goal,
        )
        for of_engine in all_figures
        for budget in BUDGETS
    ]


def table(all_figures: Sequence[Figures], size: Size) -> str:
    """The figures side by side, and the budget's lines below."""
    lines = [
        f"Python {platform.python_version()}, one worker, {size.in_flight} in flight, medians of {size.rounds} rounds; "
        f"answers of {all_figures[0].answer_bytes} bytes, streams of {size.events} and {size.events * LONGER} chunks",
        "",
        f"{'':38}" + "".join([f"{of_engine.engine:>14}" for of_engine in all_figures]),
    ]
    for name, field, digits in _ROWS:
        values = [f"{getattr(of_engine, field):14,.{digits}f}" for of_engine in all_figures]
        lines.append(f"{name:38}{''.join(values)}")
    lines.append("")
    lines += [verdict.line() for verdict in verdicts(all_figures)]
    bare_us = max([of_engine.bare_us for of_engine in all_figures])
    if bare_us > BARE_MOST_US:
        lines.append(
            f"A bare answer takes up to {bare_us:.1f} us here. Limits that are times were set where it takes at most "
            f"{BARE_MOST_US}: whether they are met tells of the machine, too."
        )
    return "\n".join(lines)
