"""How providers, their targets and models fared lately, for staff and for readers of the page of models: read from the traces of the last requests, whichever process served.

One query over the newest traces, so what it costs does not grow with the table.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.utils import timezone

from billing.models import RequestTrace

TRACES_MOST = 2000
SPAN = timedelta(hours=1)
MODELS_SPAN = timedelta(hours=24)
TROUBLE_LEAST_TRIES = 3
TROUBLE_SHARE = 0.5

# What says nothing about the provider: the caller left, or the gateway spared it a call.
_BLAMELESS = frozenset({"served", "cancelled"})


class Fared(msgspec.Struct, frozen=True):
    """Tries of one target, or of all targets of one provider (`upstream_model` empty)."""

    provider: str
    upstream_model: str
    tries: int
    failed: int
    median_ms: int | None
    last_failure: str = ""

    @property
    def is_in_trouble(self) -> bool:
        return self.tries >= TROUBLE_LEAST_TRIES and self.failed >= self.tries * TROUBLE_SHARE


def targets_lately(now: datetime | None = None) -> list[Fared]:
    """Each target that was tried within the last hour, by provider and name."""
    return _fared(_attempts(now), by_target=True)


def providers_lately(now: datetime | None = None) -> dict[str, Fared]:
    return {fared.provider: fared for fared in _fared(_attempts(now), by_target=False)}


def models_lately(now: datetime | None = None) -> dict[str, Fared]:
    """Tries of each model within a day, by slug; the newest of them where there are many."""
    groups: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for attempt in _attempts(now, MODELS_SPAN):
        groups[str(attempt.get("model", ""))].append(attempt)
    return {slug: _summed(("", ""), tries) for slug, tries in groups.items()}


def _attempts(now: datetime | None, span: timedelta = SPAN) -> list[dict[str, Any]]:
    since = (now or timezone.now()) - span
    traces = RequestTrace.objects.filter(created_at__gte=since).order_by("-created_at").values_list("attempts", flat=True)
    return [attempt for attempts in traces[:TRACES_MOST] for attempt in reversed(attempts) if isinstance(attempt, dict)]


def _fared(attempts: Iterable[dict[str, Any]], *, by_target: bool) -> list[Fared]:
    """`attempts` has the newest first."""
    groups: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for attempt in attempts:
        name = (str(attempt.get("provider", "")), str(attempt.get("upstream_model", "")) if by_target else "")
        groups[name].append(attempt)
    return [_summed(name, tries) for name, tries in sorted(groups.items())]


def _summed(name: tuple[str, str], tries: list[dict[str, Any]]) -> Fared:
    failures = [str(attempt.get("result", "")) for attempt in tries if attempt.get("result") not in _BLAMELESS]
    times = [attempt["duration_ms"] for attempt in tries if isinstance(attempt.get("duration_ms"), int)]
    median = round(statistics.median(times)) if times else None
    return Fared(name[0], name[1], len(tries), len(failures), median, failures[0] if failures else "")
