"""What `chat.drift` judges, read from the records of requests, whichever process served them.

The last day is read whole, by the index of its time; of each day before, so many of its newest requests, so that the week
costs no more than that whatever the table holds. For pages that keep the answer a while.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from billing.ledger.reconcile import last_finding, proofs
from billing.models import Entry, RequestTrace, UsageRecord
from chat.drift import BEFORE, LATELY, Counted, Figures, ModelFigures, Observed, Proof
from chat.schema.delivery import EndState

SAMPLE_MOST: Final = 1000
DAY_SAMPLE_MOST: Final = 3000
MODELS_MOST: Final = 200

_DAY: Final = timedelta(days=1)
_CALLERS = [EndState.REFUSED, EndState.DRY_RUN, EndState.REPLAYED]
_FAILED = Q(end_state__in=[EndState.FAILED, EndState.ERROR])
_COMPLETE = Q(end_state__in=[EndState.DONE, EndState.LENGTH]) & ~Q(usage_source="")
# Of a fallback the time says nothing about the model that was asked.
_FIRST_TOKEN = Q(first_token_ms__isnull=False, fallback_depth=0)


def observe(now: datetime) -> Observed:
    proof = last_finding() or proofs().first()
    return Observed(
        now=now,
        counted=_counted(now),
        models=_models(now),
        proof=None if proof is None else Proof(proof.created_at, int(proof.details.get("violations", 0))),
        booked_since=Entry.objects.order_by("pk").values_list("created_at", flat=True).first(),
    )


def _counted(now: datetime) -> tuple[Counted, ...]:
    """Of the newest requests of which both are known."""
    trace = RequestTrace.objects.filter(generation=OuterRef("generation"))
    rows = (
        UsageRecord.objects.filter(created_at__gte=now - LATELY, usage_source="reported", prompt_tokens__gt=0)
        .order_by("-created_at")
        .annotate(attempts=Subquery(trace.values("attempts")[:1]))
        .values_list("model_used", "provider", "prompt_tokens", "attempts")
    )
    sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for model, provider, prompt_tokens, attempts in rows[:SAMPLE_MOST]:
        if estimate := _estimate(attempts):
            for position, value in enumerate((1, prompt_tokens, estimate)):
                sums[model, provider][position] += value
    return tuple(Counted(*name, *values) for name, values in sorted(sums.items()))


def _estimate(attempts: Any) -> int:
    """What the prompt was taken for when the try that served was made; 0 where the trace is gone or older than that."""
    for attempt in reversed(attempts or []):
        if isinstance(attempt, dict) and attempt.get("result") == "served":
            estimate = attempt.get("prompt_tokens_estimate")
            return estimate if isinstance(estimate, int) else 0
    return 0


def _models(now: datetime) -> tuple[ModelFigures, ...]:
    """By the model that was asked; those that were asked most lately."""
    start = now - LATELY
    lately = _figures(_records().filter(created_at__gte=start, created_at__lte=now))
    before: defaultdict[str, Figures] = defaultdict(Figures)
    for number in range(1, BEFORE // _DAY + 1):
        end = start - (number - 1) * _DAY
        newest = _records().filter(created_at__gte=start - number * _DAY, created_at__lt=end).order_by("-created_at")
        for slug, figures in _figures(_records().filter(pk__in=newest.values("pk")[:DAY_SAMPLE_MOST])).items():
            before[slug] = before[slug].plus(figures)
    most = sorted(lately, key=lambda slug: (-lately[slug].requests, slug))[:MODELS_MOST]
    return tuple(ModelFigures(slug, lately[slug], before[slug]) for slug in most)


def _records() -> QuerySet[UsageRecord]:
    """Of what was not refused to its caller."""
    return UsageRecord.objects.exclude(end_state__in=_CALLERS)


def _figures(records: QuerySet[UsageRecord]) -> dict[str, Figures]:
    sums: dict[str, Any] = {
        "requests": Count("pk"),
        "failed": Count("pk", filter=_FAILED),
        "complete": Count("pk", filter=_COMPLETE),
        "uncounted": Count("pk", filter=_COMPLETE & Q(usage_source="estimated")),
        "first_token_sum_ms": Coalesce(Sum("first_token_ms", filter=_FIRST_TOKEN), 0),
        "first_token_count": Count("pk", filter=_FIRST_TOKEN),
        "overrun": Coalesce(Sum("overrun_microcredits"), 0),
    }
    rows = records.order_by().values_list("model_asked").annotate(**sums)
    return {row[0]: Figures(*row[1:]) for row in rows}
