"""Makes the rows of the catalogue equal to a file.

What a file names is created or changed, an entry's targets and a chain's models as whole lists; what it does not name
stays, unless pruning is asked for. A key that staff entered is never touched, and no file leads it to another host. All of
it is one transaction: a file with a fault changes nothing. Loading a file twice changes nothing the second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from billing import audit
from billing.pricing import microcredits
from chat.catalog import provider_key
from chat.loading.chains import ChainRefused, chains_in_force, check_chain, write_chain
from chat.loading.file import CatalogFile, CatalogFileError, ModelEntry, PriceEntry, ProviderEntry
from chat.loading.rows import (
    PriceAmounts,
    add_price,
    check_provider,
    default_pdf_fee,
    has_history,
    leads_elsewhere,
    lock,
    schedule_prices,
    set_default_pdf_fee,
    touch,
)
from chat.models import CAPABILITY_FLAGS, IMAGE_RULE, CatalogModel, FallbackChain, Provider, Target
from chat.providers.registry import DIALECTS


class Report(msgspec.Struct):
    """What a load did: one line for each row that was created, changed, disabled or removed, and what to look at."""

    created: list[str] = []
    changed: list[str] = []
    disabled: list[str] = []
    removed: list[str] = []
    warnings: list[str] = []
    unchanged_count: int = 0

    @property
    def has_changes(self) -> bool:
        return bool(self.created or self.changed or self.disabled or self.removed)

    @property
    def counts(self) -> dict[str, int]:
        return {
            "created": len(self.created),
            "changed": len(self.changed),
            "unchanged": self.unchanged_count,
            "disabled": len(self.disabled),
            "removed": len(self.removed),
        }


def load(catalog: CatalogFile, *, actor: str, is_pruning: bool = False) -> Report:
    """Bring the rows in line with a file. Raises CatalogFileError, with all faults found so far, and changes nothing."""
    with transaction.atomic():
        lock()
        load_ = _Load(catalog, actor)
        load_.run(is_pruning=is_pruning)
        report = load_.report
        if report.has_changes:
            touch()
            audit.record("catalog.loaded", actor=actor, details=report.counts)
    return report


class _Load:
    """One load: the rows by slug as they become, and what was done to them."""

    def __init__(self, catalog: CatalogFile, actor: str) -> None:
        self.report = Report()
        self._catalog = catalog
        self._actor = actor
        self._faults: list[str] = []
        self._providers = {row.slug: row for row in Provider.objects.all()}
        self._models = {row.slug: row for row in CatalogModel.objects.all()}

    def run(self, *, is_pruning: bool) -> None:
        if self._catalog.defaults.pdf_page is not None:
            is_new = set_default_pdf_fee(microcredits(self._catalog.defaults.pdf_page), actor=self._actor)
            self._note("default PDF fee", is_new=False, changed=["pdf_page"] if is_new else [])
        for provider in self._catalog.providers:
            self._load_provider(provider)
        for model in self._catalog.models:
            self._load_model(model)
        self._stop_at_faults()
        self._load_chains(is_pruning=is_pruning)
        self._stop_at_faults()
        if is_pruning:
            self._prune_models()
            self._prune_providers()

    def _stop_at_faults(self) -> None:
        if self._faults:
            raise CatalogFileError(self._faults)

    def _note(self, name: str, *, is_new: bool, changed: list[str]) -> None:
        if is_new:
            self.report.created.append(name)
        elif changed:
            self.report.changed.append(f"{name}: {', '.join(changed)}")
        else:
            self.report.unchanged_count += 1

    # Providers

    def _load_provider(self, entry: ProviderEntry) -> None:
        row = self._providers.setdefault(entry.slug, Provider(slug=entry.slug))
        if leads_elsewhere(row, entry.base_url):
            self._faults.append(
                f"providers ({entry.slug}).base_url: Its stored key was entered for another host ({row.base_url}). Change the "
                "address in the admin and enter the key again there, or load the file once the key is forgotten there."
            )
            return
        is_new = row.pk is None
        has_adapter = entry.dialect in DIALECTS
        changed = _assign(
            row,
            dialect=entry.dialect,
            base_url=entry.base_url,
            api_key_env=entry.api_key_env,
            allow_private_address=entry.allow_private_address,
            is_enabled=entry.enabled and has_adapter,
        )
        try:
            check_provider(row)
        except ValidationError as error:
            self._faults += [
                f"providers ({entry.slug}).{field}: {' '.join(texts)}" for field, texts in error.message_dict.items()
            ]
            return
        if is_new or changed:
            row.save()
        self._note(f"provider {entry.slug}", is_new=is_new, changed=changed)
        if not has_adapter:
            self.report.warnings.append(f"provider {entry.slug} is disabled: the dialect '{entry.dialect}' has no adapter yet")
        elif row.is_enabled and not provider_key(row).is_usable:
            self.report.warnings.append(f"provider {entry.slug} has no key here: {entry.api_key_env} is not set")

    # Models, their prices and targets

    def _load_model(self, entry: ModelEntry) -> None:
        row = self._models.setdefault(entry.slug, CatalogModel(slug=entry.slug))
        is_new = row.pk is None
        changed = _assign(
            row,
            name=entry.name,
            owned_by=entry.owned_by,
            modality=entry.modality,
            context_window=entry.context_window,
            max_output_tokens=entry.max_output_tokens,
            has_context_fallback=entry.context_fallback,
            deprecated_on=entry.deprecated_on,
            is_enabled=entry.enabled,
            **{flag: name in entry.supports for name, flag in CAPABILITY_FLAGS.items()},
            **{field: getattr(entry.image_tokens, name, None) for name, field in IMAGE_RULE.items()},
        )
        if is_new or changed:
            row.save()
        if self._load_prices(row, entry):
            changed.append("prices")
        if self._load_targets(row, entry):
            changed.append("targets")
        self._note(f"model {entry.slug}", is_new=is_new, changed=changed)
        if entry.enabled and not row.prices.filter(withdrawn_at__isnull=True).exists():
            self.report.warnings.append(f"model {entry.slug} has no price and cannot be called")
        if entry.enabled and not entry.targets:
            self.report.warnings.append(f"model {entry.slug} has no target and cannot be called")

    def _load_prices(self, model: CatalogModel, entry: ModelEntry) -> bool:
        """Whether a price version was made or withdrawn. A file that names no scheduled prices leaves them as they are."""
        now = timezone.now()
        prices, later = entry.prices_at(now), entry.scheduled_prices
        if prices is not entry.prices:
            self.report.warnings.append(f"model {entry.slug}: a scheduled price has begun and counts instead of `prices`")
        is_changed = prices is not None and add_price(model, _amounts(prices), actor=self._actor) is not None
        if later is not None:
            wanted = {one.start: _amounts(one) for one in later if one.start > now}
            is_changed |= schedule_prices(model, wanted, actor=self._actor)
        return is_changed

    def _load_targets(self, model: CatalogModel, entry: ModelEntry) -> bool:
        """Whether any target of the model was added, changed or removed."""
        is_changed = False
        left = {(row.provider_id, row.upstream_model): row for row in model.targets.all()}
        for index, target in enumerate(entry.targets):
            provider = self._providers.get(target.provider)
            if provider is None:
                self._faults.append(f"models ({entry.slug}).targets[{index}].provider: '{target.provider}' is not a provider")
                continue
            if provider.pk is None:
                continue  # refused above, with a fault of its own
            name = (provider.pk, target.upstream_model)
            row = left.pop(name, None) or Target(model=model, provider=provider, upstream_model=target.upstream_model)
            values = msgspec.structs.asdict(target)
            values |= {name: sorted(set(values[name])) for name in ("quirks", "fallback_statuses")}
            del values["provider"], values["upstream_model"]
            if _assign(row, **values) or row.pk is None:
                row.save()
                is_changed = True
        for row in left.values():
            row.delete()
            is_changed = True
        return is_changed

    # Chains

    def _load_chains(self, *, is_pruning: bool) -> None:
        entries = {entry.source: entry.targets for entry in self._catalog.fallback_chains}
        standing = chains_in_force()
        in_force = entries if is_pruning else standing | entries
        for source, targets in entries.items():
            self._faults += self._chain_faults(source, targets, in_force)
        self._stop_at_faults()
        for source, targets in entries.items():
            is_changed = write_chain(self._models[source], [self._models[target] for target in targets])
            self._note(f"chain of {source}", is_new=source not in standing, changed=["targets"] if is_changed else [])
        if is_pruning:
            for chain in (
                FallbackChain.objects.filter(workspace__isnull=True).exclude(source__slug__in=entries).select_related("source")
            ):
                chain.delete()
                self.report.removed.append(f"chain of {chain.source.slug}")

    def _chain_faults(self, source: str, targets: list[str], in_force: Mapping[str, list[str]]) -> list[str]:
        place = f"fallback_chains ({source})"
        if source not in self._models:
            return [f"{place}.source: '{source}' is not a model"]
        unknown = [
            f"{place}.targets[{index}]: '{target}' is not a model"
            for index, target in enumerate(targets)
            if target not in self._models
        ]
        if unknown:
            return unknown
        try:
            check_chain(source, targets, {other: chain for other, chain in in_force.items() if other != source})
        except ChainRefused as error:
            return [f"{place}.targets[{error.position}]: {error.message}"]
        return []

    # What the file does not name

    def _prune_models(self) -> None:
        named = {entry.slug for entry in self._catalog.models}
        for slug, row in self._models.items():
            if slug not in named:
                self._disable_or_remove(row, f"model {slug}")

    def _prune_providers(self) -> None:
        named = {entry.slug for entry in self._catalog.providers}
        for slug, row in self._providers.items():
            if slug not in named:
                self._disable_or_remove(row, f"provider {slug}")

    def _disable_or_remove(self, row: Provider | CatalogModel, name: str) -> None:
        if not has_history(row) and not (isinstance(row, Provider) and row.targets.exists()):
            row.delete()
            self.report.removed.append(name)
        elif row.is_enabled:
            row.is_enabled = False
            row.save(update_fields=["is_enabled"])
            self.report.disabled.append(name)
        else:
            self.report.unchanged_count += 1


def _assign(row: models.Model, **values: Any) -> list[str]:
    """Set what differs, and say what did."""
    changed = [name for name, value in values.items() if getattr(row, name) != value]
    for name in changed:
        setattr(row, name, values[name])
    return changed


def _amounts(prices: PriceEntry) -> PriceAmounts:
    given = {f"{name}_microcredits": amount for name, amount in prices.amounts().items()}
    if given["pdf_page_microcredits"] is None:
        given["pdf_page_microcredits"] = default_pdf_fee()
    return msgspec.convert(given, PriceAmounts)
