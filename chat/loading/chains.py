"""Fallback chains and their rules.

A chain names at most 8 models, each once, never its own source, and none whose own chain leads back to it. A workspace's
chains are judged together with the staff defaults it has not replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.db import transaction

from billing import audit
from billing.models import Workspace
from chat.loading.rows import lock, touch
from chat.models import CAPABILITY_FLAGS, CatalogModel, ChainLink, FallbackChain

LONGEST_CHAIN = 8

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


def set_chain(source: CatalogModel, targets: Sequence[CatalogModel], *, workspace: Workspace | None = None, actor: str) -> bool:
    """Make this the chain of `source`, the staff default or a workspace's own. False if it was already.

    An empty chain of a workspace switches the default off for it. Raises ChainRefused.
    """
    slugs = [target.slug for target in targets]
    with transaction.atomic():
        lock()
        others = chains_in_force(workspace)
        others.pop(source.slug, None)
        check_chain(source.slug, slugs, others)
        if not write_chain(source, targets, workspace=workspace):
            return False
        touch()
        audit.record("chain.set", actor=actor, workspace=workspace, target=source.slug, details={"targets": slugs})
    return True


def write_chain(source: CatalogModel, targets: Sequence[CatalogModel], *, workspace: Workspace | None = None) -> bool:
    """The rows of a chain that was checked. The caller's transaction, lock and stamp. False if they stood already."""
    chain, is_new = FallbackChain.objects.get_or_create(source=source, workspace=workspace)
    if not is_new and [link.model_id for link in chain.links.all()] == [target.pk for target in targets]:
        return False
    chain.links.all().delete()
    ChainLink.objects.bulk_create(
        ChainLink(chain=chain, position=position, model=target) for position, target in enumerate(targets, start=1)
    )
    return True


def remove_chain(chain: FallbackChain, *, actor: str) -> None:
    with transaction.atomic():
        slug = chain.source.slug
        chain.delete()
        touch()
        audit.record("chain.removed", actor=actor, workspace=chain.workspace, target=slug)


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
