"""The prices that providers publish, as the maintained package `genai-prices` knows them, beside those of the catalogue.

Only `compare_prices` imports this module: the package is a development dependency, and serving needs no list of prices.
The list is in dollars per million tokens, the catalogue in credits: one credit is a cent.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal

import genai_prices
import msgspec
from django.utils import timezone
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, StartDateConstraint, TieredPrices

from billing.pricing import PriceList, credits_text, microcredits
from chat.catalog import in_force, price_list
from chat.models import Target

WINDOW_TOLERANCE = Decimal("0.05")
"""The list rounds windows to full thousands of thousands in places."""

CENTS_PER_DOLLAR = 100

_PRICES = {
    "input": ("input_mtok",),
    "output": ("output_mtok",),
    "cached_input": ("cache_read_mtok", "input_mtok"),
    "cache_write": ("cache_write_mtok", "input_mtok"),
    "audio_input": ("input_audio_mtok", "input_mtok"),
}
"""The list's name of each class, and what the class costs where the list has no price of its own for it."""


class Difference(msgspec.Struct, frozen=True):
    """`ours` and `listed` are credits per million tokens, or tokens for the context window."""

    model: str
    field: str
    ours: str
    listed: str


class Comparison(msgspec.Struct, frozen=True):
    """`notes` are facts of the list that the catalogue cannot say, or that will make a difference; `unlisted` are not compared."""

    source: str
    compared: list[str]
    differences: list[Difference]
    notes: list[str]
    unlisted: list[str]

    @property
    def is_current(self) -> bool:
        return not self.differences


def compare(day: datetime.date) -> Comparison:
    """Every enabled model that is called at a public address, against the list as of `day`.

    A price that is scheduled counts from its day on, as in the list.
    """
    comparison = Comparison(f"genai-prices {genai_prices.__version__}", [], [], [], [])
    first_moment = datetime.datetime.combine(day, datetime.time.min, datetime.UTC)
    prices = {price.model_id: price_list(price) for price in in_force(max(timezone.now(), first_moment))}
    targets = Target.objects.filter(model__is_enabled=True, provider__base_url__startswith="https://")
    for target in targets.select_related("model", "provider").order_by("model__slug", "pk"):
        slug = target.model.slug
        listed = _listed(target)
        if listed is None or target.model_id not in prices:
            comparison.unlisted.append(slug)
            continue
        if slug not in comparison.compared:
            comparison.compared.append(slug)
        comparison.differences.extend(_differences(target, prices[target.model_id], listed, day))
        comparison.notes.extend(f"{slug}: {note}" for note in _notes(listed, day))
    return comparison


def _listed(target: Target) -> ModelInfo | None:
    try:
        found = get_snapshot().find_provider_model(target.upstream_model, None, None, target.provider.base_url)
    except LookupError:
        return None
    return found[1]


def _differences(target: Target, ours: PriceList, listed: ModelInfo, day: datetime.date) -> Iterator[Difference]:
    slug, window = target.model.slug, target.model.context_window
    for name, amount in _amounts(_in_force(listed, day)).items():
        have: int = getattr(ours, name)
        if have != amount:
            yield Difference(slug, name, credits_text(have), credits_text(amount))
    if listed.context_window and abs(window - listed.context_window) > listed.context_window * WINDOW_TOLERANCE:
        yield Difference(slug, "context_window", str(window), str(listed.context_window))


def _in_force(listed: ModelInfo, day: datetime.date) -> ModelPrice:
    noon = datetime.datetime.combine(day, datetime.time(12), datetime.UTC)
    return listed.get_prices(noon)


def _amounts(prices: ModelPrice) -> dict[str, int]:
    """Microcredits per million tokens of each class that the list prices; of tiers, the first."""
    amounts = {}
    for name, keys in _PRICES.items():
        dollars = next((price for key in keys if (price := getattr(prices, key)) is not None), None)
        if dollars is not None:
            base = dollars.base if isinstance(dollars, TieredPrices) else dollars
            amounts[name] = microcredits(base * CENTS_PER_DOLLAR)
    return amounts


def _notes(listed: ModelInfo, day: datetime.date) -> Iterator[str]:
    now = _in_force(listed, day)
    tiers = now.input_mtok.tiers if isinstance(now.input_mtok, TieredPrices) else []
    for tier in tiers:
        yield f"input costs {credits_text(microcredits(tier.price * CENTS_PER_DOLLAR))} in prompts above {tier.start} tokens"
    for later in listed.prices if isinstance(listed.prices, list) else []:
        starts = _start(later)
        if starts is not None and starts > day:
            amounts = _amounts(later.prices)
            told = ", ".join(f"{name} {credits_text(amount)}" for name, amount in amounts.items())
            yield f"from {starts}: {told}"
    if listed.deprecated:
        yield "the provider has deprecated it"


def _start(price: ConditionalPrice) -> datetime.date | None:
    return price.constraint.start_date if isinstance(price.constraint, StartDateConstraint) else None
