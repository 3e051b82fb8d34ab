"""Exact arithmetic of money (pure).

1 credit is 1,000,000 microcredits. Token prices are integers in microcredits per million tokens, fees (a converted PDF
page) are integers in microcredits each. The cost of a request is

    ceil(sum(tokens_i * price_i) / 1_000_000) + sum(count_j * fee_j)

so tokens are summed first and rounded once, upwards. The receipt's lines carry each class rounded down; one `rounding`
line makes them sum to the charge.
"""

from __future__ import annotations

import functools
import re
from decimal import Decimal
from typing import Final

import msgspec

MICROCREDITS_PER_CREDIT: Final = 1_000_000
TOKENS_PER_PRICE: Final = 1_000_000
MAX_MICROCREDITS: Final = 9 * 10**15
CREDIT_DECIMALS: Final = 6
MOST_AMOUNT_CHARACTERS: Final = 64

_AMOUNT = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?", re.ASCII)


class AmountError(ValueError):
    """An amount that is not a number of credits, has more than six decimals, or leaves the ledger's range."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one generation. `cached`, `cache_write` and `audio` are part of `prompt`; `reasoning` of `completion`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    audio_tokens: int = 0
    reasoning_tokens: int = 0


class PriceList(msgspec.Struct, frozen=True):
    """One price version: microcredits per million tokens by class, and fees in microcredits each.

    Every class is set: whoever builds a list has let a missing class fall back to `input` or `output`.
    """

    version_id: int
    input: int
    output: int
    cached_input: int
    cache_write: int
    audio_input: int
    reasoning: int
    pdf_page: int = 0


class Line(msgspec.Struct, frozen=True):
    """One line of a receipt. `unit` says what `unit_price_microcredits` is the price of."""

    kind: str
    quantity: int
    unit: str
    unit_price_microcredits: int
    amount_microcredits: int


class Cost(msgspec.Struct, frozen=True):
    total_microcredits: int
    lines: tuple[Line, ...]


def _token_classes(usage: Usage, prices: PriceList) -> tuple[tuple[str, int, int], ...]:
    plain_input = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens - usage.audio_tokens
    plain_output = usage.completion_tokens - usage.reasoning_tokens
    return (
        ("input", plain_input, prices.input),
        ("cached_input", usage.cached_tokens, prices.cached_input),
        ("cache_write", usage.cache_write_tokens, prices.cache_write),
        ("audio_input", usage.audio_tokens, prices.audio_input),
        ("output", plain_output, prices.output),
        ("reasoning", usage.reasoning_tokens, prices.reasoning),
    )


def cost(usage: Usage, prices: PriceList, *, pdf_pages: int = 0) -> Cost:
    """The exact charge and its lines. The parts of `usage` must fit into their wholes (see `Usage`)."""
    lines: list[Line] = []
    numerator = 0
    for kind, tokens, price in _token_classes(usage, prices):
        if tokens:
            numerator += tokens * price
            lines.append(Line(kind, tokens, "million_tokens", price, tokens * price // TOKENS_PER_PRICE))
    total = -(-numerator // TOKENS_PER_PRICE)
    if pdf_pages:
        fee = pdf_pages * prices.pdf_page
        total += fee
        lines.append(Line("pdf_page", pdf_pages, "page", prices.pdf_page, fee))
    rounding = total - sum([line.amount_microcredits for line in lines])
    if rounding:
        lines.append(Line("rounding", 1, "request", rounding, rounding))
    return Cost(total, tuple(lines))


def dearest_input(prices: PriceList) -> int:
    """The highest price a prompt token of unknown class can have."""
    return max(prices.input, prices.cached_input, prices.cache_write, prices.audio_input)


def dearest_output(prices: PriceList) -> int:
    return max(prices.output, prices.reasoning)


def bound(prompt_tokens: int, completion_tokens: int, prices: PriceList, *, pdf_pages: int = 0) -> int:
    """The most a request within these token bounds can cost, in microcredits."""
    numerator = prompt_tokens * dearest_input(prices) + completion_tokens * dearest_output(prices)
    return -(-numerator // TOKENS_PER_PRICE) + pdf_pages * prices.pdf_page


def microcredits(credits: str | int | Decimal) -> int:
    """Credits as given by a person or a file, as whole microcredits, by string arithmetic.

    Raises AmountError for anything that is not a plain decimal number, has more than six decimals, or leaves the ledger's
    range.
    """
    if isinstance(credits, Decimal):
        is_writable = credits.is_finite() and abs(credits.adjusted()) < MOST_AMOUNT_CHARACTERS
        text = format(credits, "f") if is_writable else ""
    else:
        text = str(credits)
    match = _AMOUNT.fullmatch(text) if len(text) <= MOST_AMOUNT_CHARACTERS else None
    if match is None:
        raise AmountError("not a number of credits")
    sign, whole, fraction = match[1], match[2], (match[3] or "").rstrip("0")
    if len(fraction) > CREDIT_DECIMALS:
        raise AmountError("credits have at most six decimals")
    amount = int(whole) * MICROCREDITS_PER_CREDIT + int(fraction.ljust(CREDIT_DECIMALS, "0"))
    if amount > MAX_MICROCREDITS:
        raise AmountError("not a number of credits the ledger can hold")
    return -amount if sign else amount


@functools.lru_cache(maxsize=256)  # An answer tells its price twice.
def credits_text(amount_microcredits: int) -> str:
    """The exact number of credits: at most six decimals, no trailing zeros (`2`, `0.1475`), by integer arithmetic."""
    sign = "-" if amount_microcredits < 0 else ""
    whole, fraction = divmod(abs(amount_microcredits), MICROCREDITS_PER_CREDIT)
    if not fraction:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{fraction:06d}".rstrip("0")
