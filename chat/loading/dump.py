"""The catalogue as the file that `load_catalog` reads: what is loaded again changes nothing. Keys that staff entered stay here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import yaml
from django.db import models
from django.utils import timezone

from billing.moments import moment_text
from billing.pricing import credits_text
from chat.catalog import in_force, scheduled
from chat.loading.file import TargetEntry
from chat.models import CAPABILITY_FLAGS, IMAGE_RULE, CatalogDefault, CatalogModel, FallbackChain, Price, Provider, Target


def dump() -> str:
    """Staff's defaults only: chains of workspaces are theirs."""
    document: dict[str, Any] = {}
    default = CatalogDefault.objects.first()
    if default is not None:
        document["defaults"] = {"pdf_page": credits_text(default.pdf_page_microcredits)}
    document["providers"] = [_provider(row) for row in Provider.objects.order_by("pk")]
    now = timezone.now()
    prices = {price.model_id: price for price in in_force(now)}
    later: dict[int, list[Price]] = defaultdict(list)
    for price in scheduled(now):
        later[price.model_id].append(price)
    rows = CatalogModel.objects.order_by("pk").prefetch_related("targets__provider")
    document["models"] = [_model(row, prices.get(row.pk), later[row.pk]) for row in rows]
    chains = FallbackChain.objects.filter(workspace__isnull=True).order_by("pk").select_related("source")
    document["fallback_chains"] = [
        {"source": chain.source.slug, "targets": [link.model.slug for link in chain.links.all()]}
        for chain in chains.prefetch_related("links__model")
    ]
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=128)
    return text


class _Dumper(yaml.SafeDumper):
    """Amounts are texts of digits, and stand in the file as the digits alone."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    if not value.isascii() or not value.replace(".", "", 1).isdecimal():
        return dumper.represent_scalar("tag:yaml.org,2002:str", value)
    return dumper.represent_scalar(f"tag:yaml.org,2002:{'float' if '.' in value else 'int'}", value)


_Dumper.add_representer(str, _text)


def _provider(row: Provider) -> dict[str, Any]:
    entry: dict[str, Any] = {"slug": row.slug, "dialect": row.dialect, "base_url": row.base_url}
    if row.api_key_env:
        entry["api_key_env"] = row.api_key_env
    if row.allow_private_address:
        entry["allow_private_address"] = True
    if not row.is_enabled:
        entry["enabled"] = False
    return entry


def _model(row: CatalogModel, price: Price | None, later: Sequence[Price]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "slug": row.slug,
        "name": row.name,
        "owned_by": row.owned_by,
        "modality": row.modality,
        "context_window": row.context_window,
        "max_output_tokens": row.max_output_tokens,
        "supports": [name for name, flag in CAPABILITY_FLAGS.items() if getattr(row, flag)],
    }
    if row.has_context_fallback:
        entry["context_fallback"] = True
    if row.deprecated_on:
        entry["deprecated_on"] = row.deprecated_on.isoformat()
    image_rule = {name: getattr(row, field) for name, field in IMAGE_RULE.items() if getattr(row, field) is not None}
    if image_rule:
        entry["image_tokens"] = image_rule
    if not row.is_enabled:
        entry["enabled"] = False
    if price is not None:
        entry["prices"] = _prices(price)
    if later:
        # Of two that begin at once the last one counts.
        by_start = {moment_text(one.effective_at): _prices(one) for one in later}
        entry["scheduled_prices"] = [{"from": start, **amounts} for start, amounts in by_start.items()]
    entry["targets"] = [_target(target) for target in sorted(row.targets.all(), key=lambda target: target.pk)]
    return entry


def _prices(price: Price) -> dict[str, str]:
    amounts = ((name.removesuffix("_microcredits"), getattr(price, name)) for name in Price.AMOUNTS)
    return {name: credits_text(amount) for name, amount in amounts if amount is not None}


_TARGET_OPTIONS = tuple(name for name in TargetEntry.__struct_fields__ if name not in {"provider", "upstream_model"})


def _target(row: Target) -> dict[str, Any]:
    """With what differs from what a file means that does not say it."""
    entry: dict[str, Any] = {"provider": row.provider.slug, "upstream_model": row.upstream_model}
    for name in _TARGET_OPTIONS:
        value, field = getattr(row, name), Target._meta.get_field(name)
        usual = field.get_default() if isinstance(field, models.Field) else None
        if value != usual:
            entry[name] = value
    return entry
