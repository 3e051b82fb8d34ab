"""Which version of a model's price counts at a moment: the last one that has begun by then and was not withdrawn before.

Of two that begin at the same moment the later made one counts.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery

from billing.pricing import PriceList
from chat.models import Price

_COUNTED = Q(withdrawn_at__isnull=True)
_LATER = Q(effective_at__gt=OuterRef("effective_at")) | Q(effective_at=OuterRef("effective_at"), pk__gt=OuterRef("pk"))


def in_force(at: datetime) -> QuerySet[Price]:
    """The version of each model that counts at a moment; none of a model whose first one has not begun."""
    begun = Price.objects.filter(_COUNTED, effective_at__lte=at)
    return begun.filter(~Exists(begun.filter(_LATER, model=OuterRef("model"))))


def scheduled(after: datetime) -> QuerySet[Price]:
    """The versions that begin after a moment, the next one first."""
    return Price.objects.filter(_COUNTED, effective_at__gt=after).order_by("effective_at", "pk")


def with_end(prices: QuerySet[Price]) -> QuerySet[Price]:
    """Each with `replaced_at`, the moment from which another version counts; None where none is known."""
    later = Price.objects.filter(_COUNTED, _LATER, model=OuterRef("model")).order_by("effective_at", "pk")
    return prices.annotate(replaced_at=Subquery(later.values("effective_at")[:1]))


def price_list(price: Price) -> PriceList:
    """A price version with every class set: one without its own price costs what input or output costs."""
    return PriceList(
        version_id=price.pk or 0,
        input=price.input_microcredits,
        output=price.output_microcredits,
        cached_input=_or_else(price.cached_input_microcredits, price.input_microcredits),
        cache_write=_or_else(price.cache_write_microcredits, price.input_microcredits),
        audio_input=_or_else(price.audio_input_microcredits, price.input_microcredits),
        reasoning=_or_else(price.reasoning_microcredits, price.output_microcredits),
        pdf_page=price.pdf_page_microcredits,
    )


def _or_else(amount: int | None, fallback: int) -> int:
    return fallback if amount is None else amount
