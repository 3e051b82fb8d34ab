"""The bound on a request's cost (pure)."""

from __future__ import annotations

import msgspec


class StepQuote(msgspec.Struct, frozen=True):
    """`bound_microcredits` is the most this step can cost; `adaptations` are what the step's model does not take."""

    model: str
    price_version_id: int
    prompt_tokens_bound: int
    output_tokens_bound: int
    low_microcredits: int
    bound_microcredits: int
    adaptations: tuple[str, ...]


class Quote(msgspec.Struct, frozen=True):
    """One StepQuote for each step of the route, in order."""

    steps: tuple[StepQuote, ...]
