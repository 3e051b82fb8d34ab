"""The bound on a request's cost (pure)."""

from __future__ import annotations

from typing import Final

import msgspec

STRETCH_TOKENS: Final = 2048
"""Output tokens that a stream holds at a time."""


class StepQuote(msgspec.Struct, frozen=True):
    """`bound_microcredits` is the most this step can cost, `hold_microcredits` what is held before it is tried.

    The two differ for a stream, which holds more while it flows. `adaptations` are what the step's model does not take.
    """

    model: str
    price_version_id: int
    prompt_tokens_bound: int
    output_tokens_bound: int
    low_microcredits: int
    bound_microcredits: int
    hold_microcredits: int
    adaptations: tuple[str, ...]


class Quote(msgspec.Struct, frozen=True):
    """One StepQuote for each step of the route, in order."""

    steps: tuple[StepQuote, ...]

    def of(self, model: str) -> StepQuote:
        """The quote of the step that tries `model`."""
        return next(step for step in self.steps if step.model == model)
