"""`manage.py show_route MODEL [--workspace W]`: who would serve a model, and why not."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.models import Workspace
from billing.pricing import PriceList, credits_text
from billing.workspaces import WorkspaceNotFound, get_workspace
from chat.catalog import Snapshot, load_snapshot, provider_key
from chat.models import CatalogModel, Target


class Command(BaseCommand):
    help = "Shows the route of a model: its targets, its fallback chain, prices, and what keeps a part from being used."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", metavar="MODEL", help="slug of the model")
        parser.add_argument("--workspace", metavar="W", help="public id or name: shows its own chain where it has one")

    def handle(self, *, model: str, workspace: str | None, **options: Any) -> None:
        owner = _workspace(workspace) if workspace else None
        if not CatalogModel.objects.filter(slug=model).exists():
            raise CommandError(f"There is no model {model!r} in the catalogue.")
        snapshot = load_snapshot()
        chain = snapshot.chain(model, owner.pk if owner else None)
        for depth, slug in enumerate((model, *chain)):
            self._show_step(depth, slug, snapshot)
        if not chain:
            self.stdout.write("no fallback chain")

    def _show_step(self, depth: int, slug: str, snapshot: Snapshot) -> None:
        row = CatalogModel.objects.get(slug=slug)
        info = snapshot.models.get(slug)
        self.stdout.write(f"{depth}  {slug}  {_prices(info.prices) if info else _reason(row, snapshot)}")
        for target in row.targets.select_related("provider").order_by("pk"):
            self.stdout.write(f"     {target.upstream_model} at {target.provider.slug}, {_state(target)}{_terms(target)}")
        if depth == 0 and row.has_context_fallback:
            self.stdout.write("     what is too long for it goes to its chain")


def _workspace(reference: str) -> Workspace:
    try:
        return get_workspace(reference)
    except WorkspaceNotFound as error:
        raise CommandError(str(error)) from error


def _prices(prices: PriceList) -> str:
    return f"{credits_text(prices.input)} in, {credits_text(prices.output)} out (credits per million tokens)"


def _reason(row: CatalogModel, snapshot: Snapshot) -> str:
    """Why a model cannot be called."""
    if not row.is_enabled:
        return "cannot be called: disabled"
    if row.slug in snapshot.unpriced:
        return "cannot be called: no price"
    return "cannot be called: no usable target"


def _terms(target: Target) -> str:
    """What is said of its tries beyond the ordinary."""
    tries = ", tried twice" if target.retries else ""
    statuses = ", ".join(map(str, target.fallback_statuses))
    return tries + (f", falls back on {statuses} only" if statuses else "")


def _state(target: Target) -> str:
    provider = target.provider
    if not provider.is_enabled:
        return "unusable: the provider is disabled"
    key = provider_key(provider)
    match key.source:
        case "missing":
            return f"unusable: {provider.api_key_env} is not set"
        case "unreadable":
            return "unusable: the key cannot be read"
        case "none needed":
            return f"weight {target.weight}, no key needed"
        case source:
            return f"weight {target.weight}, key from {source}"
