"""Stacked bars as SVG geometry: across in per cent of the width, down in pixels, so that a page scales without a script (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

HEIGHT = 216
TOP = 12
BOTTOM = 24
LEFT_PERCENT = 7.0
SERIES_MOST = 7

_GAP_SHARE = 0.3


class Segment(NamedTuple):
    """`series` counts from 1, and names the colour."""

    series: int
    y: float
    height: float


class Bar(NamedTuple):
    x: float
    width: float
    label: str
    is_labelled: bool
    title: str
    segments: list[Segment]


class Line(NamedTuple):
    y: float
    label: str


class Chart(NamedTuple):
    """`rows` are the same numbers as a table: a label and one text for each series, then the total."""

    names: list[tuple[int, str]]
    bars: list[Bar]
    lines: list[Line]
    rows: list[tuple[str, list[str], str]]


def stacked(
    labels: Sequence[str], series: Mapping[str, Sequence[int]], show: Callable[[int], str], *, axis: Callable[[int], str]
) -> Chart:
    """One bar for each label. The largest series comes first and lowest; from the eighth on they are one, "other"."""
    shown = _largest(series)
    totals = [sum(values[index] for values in shown.values()) for index in range(len(labels))]
    top = _round_up(max(totals, default=0))
    room = HEIGHT - TOP - BOTTOM
    step = (100 - LEFT_PERCENT) / max(len(labels), 1)
    every = max(1, -(-len(labels) // 12))
    bars = []
    for index, label in enumerate(labels):
        floor, segments = float(HEIGHT - BOTTOM), []
        for number, values in enumerate(shown.values(), start=1):
            height = room * values[index] / top
            if height > 0:
                floor -= height
                segments.append(Segment(number, round(floor, 2), round(max(height - (1 if height > 2 else 0), 0.5), 2)))
        x = LEFT_PERCENT + index * step + step * _GAP_SHARE / 2
        bars.append(
            Bar(round(x, 3), round(step * (1 - _GAP_SHARE), 3), label, index % every == 0, show(totals[index]), segments)
        )
    lines = [Line(round(HEIGHT - BOTTOM - room * part / 4, 1), axis(top * part // 4)) for part in range(5)]
    rows = [
        (label, [show(values[index]) for values in shown.values()], show(totals[index])) for index, label in enumerate(labels)
    ]
    return Chart(list(enumerate(shown, start=1)), bars, lines, rows)


def _largest(series: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    ranked = sorted(series.items(), key=lambda item: -sum(item[1]))
    shown = dict(ranked[:SERIES_MOST])
    if rest := ranked[SERIES_MOST:]:
        shown["other"] = [sum(column) for column in zip(*(values for _, values in rest), strict=True)]
    return shown


def _round_up(value: int) -> int:
    """A round number that is not below, divisible by four."""
    size = 4
    while True:
        for tenths in (10, 15, 20, 25, 30, 40, 50, 75):
            rounded, rest = divmod(size * tenths, 10)
            if rounded >= value and not rest and rounded % 4 == 0:
                return rounded
        size *= 10
