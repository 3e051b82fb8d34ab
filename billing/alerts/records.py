"""What the records of requests say of all workspaces, by workspace: for chores that look at everybody, and for no page.

Each read costs so many queries however many workspaces there are; requests are found by the index of their time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, timedelta
from typing import Any

from django.db.models import Count, Max, Q, QuerySet

from billing.models import UsageDay, UsageRecord
from billing.moments import Span
from billing.rollups import midnight


def get_fallback_counts(span: Span) -> dict[int, tuple[int, int]]:
    """Requests that a model answered, and those of them that a fallback answered, of workspaces that have some of these."""
    answered = UsageRecord.objects.filter(created_at__gte=span.start, created_at__lt=span.end, status__lt=400)
    counts = answered.exclude(model_used="").values("workspace_id").order_by()
    sums = counts.annotate(requests=Count("pk"), fallbacks=Count("pk", filter=Q(fallback_depth__gt=0)))
    rows = sums.filter(fallbacks__gt=0).values_list("workspace_id", "requests", "fallbacks")
    return {workspace_id: (requests, fallbacks) for workspace_id, requests, fallbacks in rows}


def get_models_used(models: Iterable[str], span: Span) -> Mapping[int, frozenset[str]]:
    """Which of these models served a workspace within the span; a day that was added up counts as a whole.

    Three queries: up to which day there are some, these, and the requests that are in none.
    """
    slugs = list(models)
    days = UsageDay.objects.filter(day__gte=span.start.astimezone(UTC).date(), day__lte=span.end.astimezone(UTC).date())
    last = days.aggregate(last=Max("day"))["last"]
    start = span.start if last is None else max(span.start, midnight(last + timedelta(days=1)))
    found: dict[int, set[str]] = defaultdict(set)
    rows: QuerySet[Any]
    for rows in (days, UsageRecord.objects.filter(created_at__gte=start, created_at__lt=span.end)):
        used = rows.filter(model_used__in=slugs).order_by()
        for workspace_id, slug in used.values_list("workspace_id", "model_used").distinct():
            found[workspace_id].add(slug)
    return {workspace_id: frozenset(used) for workspace_id, used in found.items()}
