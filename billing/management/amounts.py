"""Credits as an argument of a command."""

from __future__ import annotations

from django.core.management.base import CommandError

from billing.pricing import AmountError, microcredits


def credits_argument(text: str, *, may_be_zero: bool = False) -> int:
    """Microcredits. Raises CommandError for what is no amount of credits to add."""
    try:
        amount_microcredits = microcredits(text.strip())
    except AmountError as error:
        raise CommandError(f"{text!r} is not an amount of credits: {error}.") from error
    if amount_microcredits < 0 or (amount_microcredits == 0 and not may_be_zero):
        least = "0 or more" if may_be_zero else "more than 0"
        raise CommandError(f"{text!r} is not an amount of credits to add: it must be {least}.")
    return amount_microcredits
