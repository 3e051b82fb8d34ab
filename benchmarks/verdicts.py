"""A figure held against its limit, as every part of the benchmarks tells it."""

from __future__ import annotations

import msgspec


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`limit` is the most that `value` may be, both in `unit`. `goal`, where there is one, is where the limit is to move."""

    engine: str
    name: str
    value: float
    limit: float
    unit: str
    goal: float | None = None

    @property
    def is_met(self) -> bool:
        return self.value <= self.limit

    def line(self) -> str:
        goal = "" if self.goal is None else f", goal {self.goal:g}"
        word = "met    " if self.is_met else "NOT MET"
        return f"{word}  {self.engine}: {self.name}: {self.value:.2f} {self.unit} (at most {self.limit:g}{goal})"
