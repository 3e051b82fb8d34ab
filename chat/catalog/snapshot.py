"""The whole catalogue as one immutable value, read from the rows.

A model is in it if it can be called: enabled, priced, with a target whose provider is enabled and has its key. Whether a
key is there is judged here, by the process that will use it; a key entered by staff wins over the environment's.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, cast

import msgspec
from django.utils import timezone

from billing.pricing import PriceList
from chat.catalog.versions import in_force, price_list, scheduled
from chat.models import (
    CAPABILITY_FLAGS,
    IMAGE_RULE,
    CatalogModel,
    CatalogStamp,
    ChainLink,
    FallbackChain,
    Price,
    Provider,
    Target,
)
from chat.schema.route import Capability, Dialect, ImageTokens, ModelInfo, ProviderInfo, TargetInfo, Terms
from infery_site import env, secretbox

logger = logging.getLogger(__name__)

FIRST_TOKEN_S = 60.0
FIRST_TOKEN_OF_REASONING_S = 300.0

_READS_AGAIN = 4

KeySource = Literal["staff", "environment", "none needed", "missing", "unreadable"]
ChainKey = tuple[int | None, str]


class ProviderKey(msgspec.Struct, frozen=True):
    """The key of a provider, and where this process has it from. `text` is empty unless `source` is one that has a key."""

    source: KeySource
    text: str = ""

    @property
    def is_usable(self) -> bool:
        return self.source not in {"missing", "unreadable"}

    def __repr__(self) -> str:
        return f"ProviderKey(source={self.source!r})"


class Coming(msgspec.Struct, frozen=True):
    """A model as it will be from a moment on, at which a scheduled price begins."""

    at: datetime
    model: ModelInfo


class Snapshot(msgspec.Struct, frozen=True):
    """The whole catalogue at one version.

    `models` can be called; `unpriced` are enabled and have a usable target, but no price. `chains` holds the slugs of each
    chain by workspace (None for the staff default) and source, `terms` what a chain says of the tries of its models, by slug.
    `coming` is what changes without a new version, in order.
    """

    version: int
    models: dict[str, ModelInfo]
    unpriced: frozenset[str]
    chains: dict[ChainKey, tuple[str, ...]]
    coming: tuple[Coming, ...] = ()
    terms: dict[ChainKey, dict[str, Terms]] = {}

    def at(self, now: datetime) -> Snapshot:
        """The same catalogue with every scheduled price that has begun by then (pure)."""
        due = [one for one in self.coming if one.at <= now]
        if not due:
            return self
        models = self.models | {one.model.slug: one.model for one in due}
        return msgspec.structs.replace(
            self, models=models, unpriced=self.unpriced - models.keys(), coming=self.coming[len(due) :]
        )

    def chain(self, slug: str, workspace_id: int | None) -> tuple[str, ...]:
        """The workspace's own chain of a model, which may be empty; else the staff default."""
        own = self.chains.get((workspace_id, slug))
        return own if own is not None else self.chains.get((None, slug), ())

    def terms_of(self, slug: str, workspace_id: int | None) -> Mapping[str, Terms]:
        """How the workspace's own chain of a model has its models tried, by slug, the model itself among them."""
        return self.terms.get((workspace_id, slug), {})


def key_context(provider_id: int) -> str:
    """What binds the stored key of a provider to its row."""
    return f"provider:{provider_id}"


def provider_key(provider: Provider) -> ProviderKey:
    """The key this process would call a provider with. One entered by staff wins over the environment's."""
    if provider.api_key_encrypted:
        try:
            key = secretbox.decrypt(provider.api_key_encrypted, context=key_context(provider.pk))
        except secretbox.SecretError as error:
            logger.error("The key of provider %s cannot be read: %s", provider.slug, error)  # noqa: TRY400 - no traceback near keys
            return ProviderKey("unreadable")
        return ProviderKey("staff", key.decode())
    if not provider.api_key_env:
        return ProviderKey("none needed")
    try:
        text = env.read_foreign(provider.api_key_env)
    except env.EnvError as error:
        logger.warning("The key of provider %s cannot be read: %s", provider.slug, error)
        return ProviderKey("unreadable")
    return ProviderKey("environment", text) if text else ProviderKey("missing")


def read_version() -> int:
    """The version of the catalogue in the database; 0 before anything was written."""
    return CatalogStamp.objects.values_list("version", flat=True).first() or 0


def load_snapshot() -> Snapshot:
    """The catalogue as it stands: read again if it changed while being read, so that no snapshot mixes two versions."""
    snapshot = _read(read_version())
    for _ in range(_READS_AGAIN):
        version = read_version()
        if version == snapshot.version:
            break
        snapshot = _read(version)
    return snapshot


def _read(version: int) -> Snapshot:
    providers = {row.pk: info for row in Provider.objects.filter(is_enabled=True) if (info := _provider_info(row))}
    targets: dict[int, list[Target]] = defaultdict(list)
    for target in Target.objects.filter(provider__in=providers.keys()).order_by("pk"):
        targets[target.model_id].append(target)
    now = timezone.now()
    prices = {price.model_id: price_list(price) for price in in_force(now)}
    later: dict[int, list[Price]] = defaultdict(list)
    for price in scheduled(now):
        later[price.model_id].append(price)
    models: dict[str, ModelInfo] = {}
    unpriced: set[str] = set()
    coming: list[Coming] = []
    for row in CatalogModel.objects.filter(is_enabled=True):
        if not targets[row.pk]:
            continue
        infos = tuple(_target_info(target, providers[target.provider_id], row) for target in targets[row.pk])
        if row.pk in prices:
            models[row.slug] = _model_info(row, prices[row.pk], infos)
        else:
            unpriced.add(row.slug)
        coming += (Coming(price.effective_at, _model_info(row, price_list(price), infos)) for price in later[row.pk])
    chains, terms = _read_chains()
    coming.sort(key=lambda one: one.at)
    return Snapshot(version, models, frozenset(unpriced), chains, tuple(coming), terms)


def _read_chains() -> tuple[dict[ChainKey, tuple[str, ...]], dict[ChainKey, dict[str, Terms]]]:
    chains: dict[ChainKey, tuple[str, ...]] = {}
    terms: dict[ChainKey, dict[str, Terms]] = defaultdict(dict)
    rows = FallbackChain.objects.values_list("workspace_id", "source__slug", "retries", "fallback_statuses")
    for workspace_id, source, retries, statuses in rows:
        chains[workspace_id, source] = ()
        terms[workspace_id, source][source] = _terms(retries, statuses)
    links = ChainLink.objects.order_by("chain_id", "position").values_list(
        "chain__workspace_id", "chain__source__slug", "model__slug", "retries", "fallback_statuses"
    )
    for workspace_id, source, slug, retries, statuses in links:
        chains[workspace_id, source] = (*chains.get((workspace_id, source), ()), slug)
        terms[workspace_id, source][slug] = _terms(retries, statuses)
    return chains, dict(terms)


def _terms(retries: int | None, statuses: list[int] | None) -> Terms:
    return Terms(retries, None if statuses is None else frozenset(statuses))


def _provider_info(row: Provider) -> ProviderInfo | None:
    key = provider_key(row)
    if not key.is_usable:
        return None
    return ProviderInfo(row.slug, cast("Dialect", row.dialect), row.base_url, key.text, row.allow_private_address)


def _target_info(row: Target, provider: ProviderInfo, model: CatalogModel) -> TargetInfo:
    first_token_s = FIRST_TOKEN_OF_REASONING_S if model.is_reasoning else FIRST_TOKEN_S
    return TargetInfo(
        id=row.pk,
        provider=provider,
        upstream_model=row.upstream_model,
        weight=row.weight,
        retries=row.retries,
        connect_s=row.connect_s,
        first_token_s=first_token_s if row.first_token_s is None else row.first_token_s,
        idle_s=row.idle_s,
        total_s=row.total_s,
        quirks=frozenset(row.quirks),
        fallback_statuses=frozenset(row.fallback_statuses),
    )


def probe_target(row: Target) -> tuple[ModelInfo, TargetInfo] | None:
    """A target as a call would see it, whatever is switched off and without a price; None where its provider has no key."""
    provider = _provider_info(row.provider)
    if provider is None:
        return None
    target = _target_info(row, provider, row.model)
    return _model_info(row.model, PriceList(0, 0, 0, 0, 0, 0, 0, 0), (target,)), target


def _model_info(row: CatalogModel, prices: PriceList, targets: tuple[TargetInfo, ...]) -> ModelInfo:
    return ModelInfo(
        slug=row.slug,
        name=row.name,
        owned_by=row.owned_by,
        modality=row.modality,
        context_window=row.context_window,
        max_output_tokens=row.max_output_tokens,
        capabilities=frozenset(_capabilities(row)),
        prices=prices,
        targets=targets,
        created_at=int(row.created_at.timestamp()),
        has_context_fallback=row.has_context_fallback,
        deprecated_on=row.deprecated_on,
        image_tokens=_image_tokens(row),
    )


def _image_tokens(row: CatalogModel) -> ImageTokens:
    kept = {name: getattr(row, field) for name, field in IMAGE_RULE.items()}
    return ImageTokens(**{name: value for name, value in kept.items() if value is not None})


def _capabilities(row: CatalogModel) -> Iterable[Capability]:
    return (cast("Capability", name) for name, flag in CAPABILITY_FLAGS.items() if getattr(row, flag))
