"""The bound on a request's cost (pure)."""

from __future__ import annotations

from typing import Final

import msgspec

from billing.pricing import PriceList, bound
from chat.schema.request import ChatRequest

STRETCH_TOKENS: Final = 2048
"""Output tokens that a stream holds at a time."""


class Adapted(msgspec.Struct, frozen=True):
    """The request as the target gets it, and what was changed for that.

    `json_tool` names the tool whose call is to be read as the answer, where the request was turned into one.
    """

    request: ChatRequest
    changes: tuple[str, ...]
    json_tool: str = ""


class StepQuote(msgspec.Struct, frozen=True):
    """`bound_microcredits` is the most that we expect of this step, `hold_microcredits` what is held before it is tried.

    The two differ for a stream, which holds more while it flows. `adaptations` are what the step's first target does not
    take. `prompt_tokens_estimate` is what the prompt probably has, for when nobody tells; `prompt_tokens_beyond` how many
    more than the bound a provider may count at the client's cost, as nobody else knows what it makes of a PDF. `pdf_pages` is
    how many pages the bound has the fee of. `clamp_tokens` is a limit on the output of each of `choice_count` choices that is
    ours and not the client's. `adapted` is the request as the step's first target gets it, unless its documents are converted.
    """

    model: str
    price_version_id: int
    prompt_tokens_bound: int
    output_tokens_bound: int
    low_microcredits: int
    bound_microcredits: int
    hold_microcredits: int
    adaptations: tuple[str, ...]
    prompt_tokens_estimate: int
    clamp_tokens: int | None = None
    prompt_tokens_beyond: int = 0
    pdf_pages: int = 0
    choice_count: int = 1
    adapted: Adapted | None = None

    @property
    def clamps(self) -> tuple[str, ...]:
        """Our limit, as it is told."""
        return () if self.clamp_tokens is None else (f"clamped=max_tokens:{self.clamp_tokens}",)

    def most_microcredits(self, prices: PriceList) -> int:
        """What the client pays at the most, whatever the provider counts: the bound, open for the pages of a PDF."""
        if not self.prompt_tokens_beyond:
            return self.bound_microcredits
        prompt_tokens = self.prompt_tokens_bound + self.prompt_tokens_beyond
        return bound(prompt_tokens, self.output_tokens_bound, prices, pdf_pages=self.pdf_pages)

    def limited(self, request: ChatRequest) -> ChatRequest:
        """The request with our limit, if there is one."""
        return request if self.clamp_tokens is None else msgspec.structs.replace(request, max_tokens=self.clamp_tokens)


class Quote(msgspec.Struct, frozen=True):
    """One StepQuote for each step of the route, in order."""

    steps: tuple[StepQuote, ...]

    def of(self, model: str) -> StepQuote:
        """The quote of the step that tries `model`."""
        return next(step for step in self.steps if step.model == model)


class Limit(msgspec.Struct, frozen=True):
    """What may be held at the most, and the code of the refusal of more."""

    code: str
    available_microcredits: int


class Verdict(msgspec.Struct, frozen=True):
    """What an admission would come to: the quote that would be held, and the code of its refusal; empty if it is admitted."""

    quote: Quote
    refusal: str = ""
