"""Who would serve a model, in which order, and what keeps a part of it from being used. For the command and for staff."""

from __future__ import annotations

import msgspec

from billing.models import Workspace
from billing.pricing import PriceList, credits_text
from chat.catalog import Snapshot, load_snapshot, provider_key
from chat.models import CatalogModel, Target
from chat.schema.route import AS_THE_CATALOGUE, Terms


class UnknownModel(LookupError):
    """The catalogue has no model of this name."""


class TargetTold(msgspec.Struct, frozen=True):
    """One target of a step; `state` says why it is used or not."""

    name: str
    state: str
    is_usable: bool


class StepTold(msgspec.Struct, frozen=True):
    """One model of a route. `depth` 0 is the model asked; `note` is its price, or why it cannot be called."""

    depth: int
    slug: str
    note: str
    is_callable: bool
    targets: tuple[TargetTold, ...]
    remark: str = ""


def describe_route(slug: str, workspace: Workspace | None = None) -> tuple[StepTold, ...]:
    """The model asked and its chain, the workspace's own where it has one. Raises UnknownModel."""
    if not CatalogModel.objects.filter(slug=slug).exists():
        raise UnknownModel(f"There is no model {slug!r} in the catalogue.")
    snapshot = load_snapshot()
    workspace_id = workspace.pk if workspace else None
    slugs, terms = (slug, *snapshot.chain(slug, workspace_id)), snapshot.terms_of(slug, workspace_id)
    rows = {
        row.slug: row for row in CatalogModel.objects.filter(slug__in=slugs).prefetch_related("targets", "targets__provider")
    }
    return tuple(_step(depth, rows[one], snapshot, terms.get(one, AS_THE_CATALOGUE)) for depth, one in enumerate(slugs))


def _step(depth: int, row: CatalogModel, snapshot: Snapshot, terms: Terms) -> StepTold:
    info = snapshot.models.get(row.slug)
    targets = sorted(row.targets.all(), key=lambda target: target.pk)
    note = prices_told(info.prices) if info else _reason(row, snapshot)
    remarks = ["what is too long for it goes to its chain"] if depth == 0 and row.has_context_fallback else []
    remarks += [f"in this chain{said}"] if (said := _said(terms)) else []
    return StepTold(depth, row.slug, note, info is not None, tuple(_target(target) for target in targets), "; ".join(remarks))


def prices_told(prices: PriceList) -> str:
    return f"{credits_text(prices.input)} in, {credits_text(prices.output)} out (credits per million tokens)"


def _reason(row: CatalogModel, snapshot: Snapshot) -> str:
    """Why a model cannot be called."""
    if not row.is_enabled:
        return "cannot be called: disabled"
    if row.slug in snapshot.unpriced:
        return "cannot be called: no price"
    return "cannot be called: no usable target"


def _target(target: Target) -> TargetTold:
    state, is_usable = _state(target)
    return TargetTold(f"{target.upstream_model} at {target.provider.slug}", f"{state}{_terms(target)}", is_usable)


def _state(target: Target) -> tuple[str, bool]:
    provider = target.provider
    if not provider.is_enabled:
        return "unusable: the provider is disabled", False
    key = provider_key(provider)
    match key.source:
        case "missing":
            return f"unusable: {provider.api_key_env} is not set", False
        case "unreadable":
            return "unusable: the key cannot be read", False
        case "none needed":
            return f"weight {target.weight}, no key needed", True
        case source:
            return f"weight {target.weight}, key from {source}", True


def _terms(target: Target) -> str:
    """What is said of its tries beyond the ordinary."""
    return _said(Terms(target.retries or None, frozenset(target.fallback_statuses)))


def _said(terms: Terms) -> str:
    tries = "" if terms.retries is None else f", tried {'twice' if terms.retries else 'once'}"
    statuses = ", ".join(map(str, sorted(terms.fallback_statuses or ())))
    return tries + (f", falls back on {statuses} only" if statuses else "")
