"""Which workspaces use a model that is to be deprecated, or is: what alerts judge (`billing.alerts.watching`).

The catalogue is asked in each pass, so that a date counts at once; who used what, which costs more, once an hour or when
the models are others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from billing.alerts.judging import DEPRECATION_DAYS, USED_WITHIN, ModelFact
from billing.alerts.records import get_models_used
from billing.models import Workspace
from billing.moments import Span
from chat.models import CatalogModel

USED_EVERY: Final = timedelta(hours=1)


class Deprecations:
    """Of one process; it remembers who used the models."""

    def __init__(self) -> None:
        self._used: Mapping[int, frozenset[str]] = {}
        self._slugs: frozenset[str] = frozenset()
        self._asked_at: datetime | None = None

    def read(self, workspaces: Sequence[Workspace], now: datetime) -> dict[int, list[ModelFact]]:
        """By workspace. One query, and three more if it has to ask who used the models."""
        until = now.astimezone(UTC).date() + timedelta(days=max(DEPRECATION_DAYS))
        # One that is disabled may be gone: all the more has to be told to who used it.
        rows = CatalogModel.objects.filter(deprecated_on__lte=until).values_list("slug", "deprecated_on").order_by("slug")
        facts = {slug: ModelFact(slug, day) for slug, day in rows if day is not None}
        self._ask(frozenset(facts), now)
        return {
            workspace.pk: [fact for slug, fact in facts.items() if slug in used]
            for workspace in workspaces
            if (used := self._used.get(workspace.pk))
        }

    def _ask(self, slugs: frozenset[str], now: datetime) -> None:
        is_fresh = self._asked_at is not None and timedelta() <= now - self._asked_at < USED_EVERY
        if slugs != self._slugs or (slugs and not is_fresh):
            self._used = get_models_used(slugs, Span(now - USED_WITHIN, now)) if slugs else {}
            self._slugs, self._asked_at = slugs, now
