"""Fallback chains and their rules.

A chain names at most 8 models, each once, never its own source, and none whose own chain leads back to it. A workspace's
chains are judged together with the staff defaults it has not replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from billing import audit
from billing.models import Workspace
from chat.loading.rows import lock, touch
from chat.models import CAPABILITY_FLAGS, CatalogModel, ChainLink, FallbackChain
from chat.schema.route import AS_THE_CATALOGUE, FALLBACK_STATUSES, Terms

LONGEST_CHAIN = 8

TermsBySlug = Mapping[str, Terms]

# The others are: a PDF becomes text and pages, a JSON format a tool or an instruction.
_NEVER_ADAPTED = ("streaming", "vision", "tools", "audio_input")


class ChainRefused(Exception):
    """A chain that breaks a rule. `position` counts its models from 0; None if the fault is not one model's."""

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


def check_chain(source: str, targets: Sequence[str], chains: Mapping[str, Sequence[str]]) -> None:
    """Raises ChainRefused. All by slug; `chains` are those in force beside this one (pure)."""
    if len(targets) > LONGEST_CHAIN:
        raise ChainRefused(f"A chain has at most {LONGEST_CHAIN} models.", LONGEST_CHAIN)
    for position, target in enumerate(targets):
        if target == source:
            raise ChainRefused(f"A model cannot fall back to itself ({source}).", position)
        if target in targets[:position]:
            raise ChainRefused(f"{target} stands twice in the chain.", position)
        if _leads_to(source, target, chains):
            raise ChainRefused(f"{target} falls back to {source} itself, which makes a cycle.", position)


def _leads_to(wanted: str, start: str, chains: Mapping[str, Sequence[str]]) -> bool:
    open_slugs, seen = [start], {start}
    while open_slugs:
        for slug in chains.get(open_slugs.pop(), ()):
            if slug == wanted:
                return True
            if slug not in seen:
                seen.add(slug)
                open_slugs.append(slug)
    return False


def chains_in_force(workspace: Workspace | None = None) -> dict[str, list[str]]:
    """The chains of a workspace, its own before the staff defaults, by slug; the defaults alone without one."""
    chains = _chains_of(None)
    return chains if workspace is None else chains | _chains_of(workspace)


def _chains_of(owner: Workspace | None) -> dict[str, list[str]]:
    rows = FallbackChain.objects.filter(workspace=owner).select_related("source").prefetch_related("links__model")
    return {row.source.slug: [link.model.slug for link in row.links.all()] for row in rows}


def set_chain(
    source: CatalogModel,
    targets: Sequence[CatalogModel],
    *,
    workspace: Workspace | None = None,
    actor: str,
    terms: TermsBySlug | None = None,
) -> bool:
    """Make this the chain of `source`, the staff default or a workspace's own. False if it was already.

    An empty chain of a workspace switches the default off for it. `terms` are how it has the source and its models tried,
    by slug; without them, and for the staff default, that stays as it stands. Raises ChainRefused.
    """
    slugs = [target.slug for target in targets]
    with transaction.atomic():
        lock()
        others = chains_in_force(workspace)
        others.pop(source.slug, None)
        check_chain(source.slug, slugs, others)
        for position, slug in enumerate([source.slug, *slugs]):
            check_terms((terms or {}).get(slug, AS_THE_CATALOGUE), position - 1)
        if not write_chain(source, targets, workspace=workspace, terms=terms):
            return False
        touch()
        details: dict[str, Any] = {"targets": slugs}
        if terms:
            details["terms"] = {
                slug: told
                for slug, one in terms.items()
                if (told := {name: value for name, value in _columns(one).items() if value is not None})
            }
        audit.record("chain.set", actor=actor, workspace=workspace, target=source.slug, details=details)
    return True


def check_terms(terms: Terms, position: int) -> None:
    """Raises ChainRefused for what no target of the catalogue could say either (pure)."""
    if terms.retries not in {None, 0, 1}:
        raise ChainRefused("A model is tried again at most once.", position)
    wrong = sorted((terms.fallback_statuses or frozenset()) - FALLBACK_STATUSES)
    if wrong:
        raise ChainRefused(f"No chain moves on after {', '.join(map(str, wrong))}.", position)


def write_chain(
    source: CatalogModel,
    targets: Sequence[CatalogModel],
    *,
    workspace: Workspace | None = None,
    terms: TermsBySlug | None = None,
) -> bool:
    """The rows of a chain that was checked. The caller's transaction, lock and stamp. False if they stood already."""
    chain, is_new = FallbackChain.objects.get_or_create(source=source, workspace=workspace)
    links = list(chain.links.select_related("model"))
    standing = {source.slug: _columns_of(chain)} | {link.model.slug: _columns_of(link) for link in links}
    wanted = standing if terms is None else {slug: _columns(one) for slug, one in terms.items()}
    slugs = [target.slug for target in targets]
    of = {slug: wanted.get(slug, _columns(AS_THE_CATALOGUE)) for slug in [source.slug, *slugs]}
    if not is_new and ([link.model.slug for link in links], standing) == (slugs, of):
        return False
    FallbackChain.objects.filter(pk=chain.pk).update(**of[source.slug])
    chain.links.all().delete()
    ChainLink.objects.bulk_create(
        ChainLink(chain=chain, position=position, model=target, **of[target.slug])
        for position, target in enumerate(targets, start=1)
    )
    return True


def _columns(terms: Terms) -> dict[str, Any]:
    statuses = terms.fallback_statuses
    return {"retries": terms.retries, "fallback_statuses": None if statuses is None else sorted(statuses)}


def _columns_of(row: FallbackChain | ChainLink) -> dict[str, Any]:
    return {"retries": row.retries, "fallback_statuses": row.fallback_statuses}


def remove_chain(chain: FallbackChain, *, actor: str) -> None:
    with transaction.atomic():
        slug = chain.source.slug
        chain.delete()
        touch()
        audit.record("chain.removed", actor=actor, workspace=chain.workspace, target=slug)


def reset_chain(source: CatalogModel, workspace: Workspace, *, actor: str) -> None:
    """Give a workspace the staff default back. Raises ChainRefused where that makes a cycle with its other chains."""
    with transaction.atomic():
        lock()
        own = FallbackChain.objects.select_related("source", "workspace").filter(source=source, workspace=workspace).first()
        if own is None:
            return
        others = chains_in_force() | {slug: chain for slug, chain in _chains_of(workspace).items() if slug != source.slug}
        check_chain(source.slug, others.pop(source.slug, []), others)
        remove_chain(own, actor=actor)


def chain_warnings(source: CatalogModel, targets: Sequence[CatalogModel]) -> list[str]:
    """What requests to `source` some model of its chain cannot serve; it is skipped for those."""
    warnings = []
    for target in targets:
        flags = ((name, CAPABILITY_FLAGS[name]) for name in _NEVER_ADAPTED)
        lacking = [name for name, flag in flags if getattr(source, flag) and not getattr(target, flag)]
        if target.modality != source.modality:
            warnings.append(f"{target.slug} is no {source.modality} model and will always be skipped.")
        elif lacking:
            warnings.append(f"{target.slug} will be skipped for requests that need {', '.join(lacking)}.")
        if not target.is_enabled:
            warnings.append(f"{target.slug} is disabled and will be skipped.")
    return warnings
