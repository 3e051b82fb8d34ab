"""The taxi meter of a stream: how far the credit that is held reaches, and when more has to be held (pure).

A stream holds its prompt and the first stretch of output. While text flows, further stretches are held before the last
one is used up, so that a workspace is never refused over output that nobody will make, and no output flows that nobody
has paid for. Tokens are counted from delivered bytes, on the safe side of what tokenizers make of ordinary text; the
charge itself is made from the provider's own figure, and where that is more, the admission holds the rest at the end.
"""

from __future__ import annotations

from billing.pricing import PriceList, bound
from chat.schema.quote import STRETCH_TOKENS, StepQuote

BYTES_PER_TOKEN = 3
ASK_BELOW_TOKENS = (STRETCH_TOKENS // 2, STRETCH_TOKENS // 8, 0)
"""How much of the last stretch is left when the next is asked for; after each refusal by the next of these."""


class TaxiMeter:
    """Follows one stream. `held_microcredits` is what is held when it begins to flow."""

    def __init__(self, step: StepQuote, prices: PriceList, held_microcredits: int) -> None:
        self._step = step
        self._prices = prices
        self._held_microcredits = held_microcredits
        self._covered_tokens = 0
        self._ask_below_tokens: int | None = ASK_BELOW_TOKENS[0]
        self._cover()

    def due(self, sent_bytes: int) -> int:
        """The microcredits of the next stretch, if it is time to hold it; else 0."""
        limit = self._step.output_tokens_bound
        if self._covered_tokens >= limit or self._ask_below_tokens is None or self._left(sent_bytes) >= self._ask_below_tokens:
            return 0
        return max(1, self._cost(min(self._covered_tokens + STRETCH_TOKENS, limit)) - self._held_microcredits)

    def held(self, amount_microcredits: int) -> None:
        """A further hold was taken."""
        self._held_microcredits += amount_microcredits
        self._ask_below_tokens = ASK_BELOW_TOKENS[0]
        self._cover()

    def refused(self, sent_bytes: int) -> None:
        """A further hold was refused: it is due again when less is left, for other requests may have given credit back."""
        left = self._left(sent_bytes)
        self._ask_below_tokens = next((tokens for tokens in ASK_BELOW_TOKENS if tokens <= left), None)

    def covers(self, sent_bytes: int) -> bool:
        """Whether what is held pays for so much output. The limit itself is the provider's to keep."""
        return self._covered_tokens >= self._step.output_tokens_bound or self._left(sent_bytes) >= 0

    def is_ahead(self, sent_bytes: int) -> bool:
        """Whether so much output is paid, and nothing is due for it yet."""
        if self._covered_tokens >= self._step.output_tokens_bound:
            return True
        left = self._left(sent_bytes)
        return left >= 0 and (self._ask_below_tokens is None or left >= self._ask_below_tokens)

    def covered_bytes(self) -> int:
        """How much output what is held pays for, where it does not cover the limit."""
        return self._covered_tokens * BYTES_PER_TOKEN

    def _left(self, sent_bytes: int) -> int:
        return self._covered_tokens - -(-sent_bytes // BYTES_PER_TOKEN)

    def _cover(self) -> None:
        limit = self._step.output_tokens_bound
        if self._held_microcredits >= self._cost(limit):
            self._covered_tokens = limit
            return
        while self._cost(self._covered_tokens + STRETCH_TOKENS) <= self._held_microcredits:
            self._covered_tokens += STRETCH_TOKENS

    def _cost(self, output_tokens: int) -> int:
        return bound(self._step.prompt_tokens_bound, output_tokens, self._prices, pdf_pages=self._step.pdf_pages)
