"""What `chat.drift` judges, read from the records of requests, whichever process served them.

Three small queries and one over the records of eight days, by the index of their time: for pages that keep the answer a while.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any, Final

from django.db.models import Count, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce

from billing.models import AuditEvent, Entry, RequestTrace, UsageRecord
from chat.drift import BEFORE, LATELY, Counted, Figures, ModelFigures, Observed, Proof
from chat.schema.delivery import EndState

SAMPLE_MOST: Final = 1000
MODELS_MOST: Final = 200

_CALLERS = [EndState.REFUSED, EndState.DRY_RUN, EndState.REPLAYED]
_FAILED = Q(end_state__in=[EndState.FAILED, EndState.ERROR])
_COMPLETE = Q(end_state__in=[EndState.DONE, EndState.LENGTH]) & ~Q(usage_source="")
# Of a fallback the time says nothing about the model that was asked.
_FIRST_TOKEN = Q(first_token_ms__isnull=False, fallback_depth=0)


def observe(now: datetime) -> Observed:
    proof = AuditEvent.objects.filter(action="ledger.reconciled", workspace__isnull=True).order_by("-created_at").first()
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
    """By the model that was asked; the most asked ones."""
    start = now - LATELY
    spans = {"lately": Q(created_at__gte=start), "before": Q(created_at__lt=start)}
    sums = {f"{name}_{field}": term for name, span in spans.items() for field, term in _terms(span).items()}
    records = UsageRecord.objects.filter(created_at__gte=start - BEFORE, created_at__lte=now).exclude(end_state__in=_CALLERS)
    # The names of the sums are made here, so their types are not known.
    rows: Any = records.values("model_asked").annotate(**sums)
    rows = rows.order_by("-lately_requests", "model_asked")
    return tuple(
        ModelFigures(
            row["model_asked"],
            **{name: Figures(**{field: row[f"{name}_{field}"] for field in Figures.__struct_fields__}) for name in spans},
        )
        for row in rows[:MODELS_MOST]
    )


def _terms(span: Q) -> dict[str, Any]:
    return {
        "requests": Count("pk", filter=span),
        "failed": Count("pk", filter=span & _FAILED),
        "complete": Count("pk", filter=span & _COMPLETE),
        "uncounted": Count("pk", filter=span & _COMPLETE & Q(usage_source="estimated")),
        "first_token_sum_ms": Coalesce(Sum("first_token_ms", filter=span & _FIRST_TOKEN), 0),
        "first_token_count": Count("pk", filter=span & _FIRST_TOKEN),
        "overrun_microcredits": Coalesce(Sum("overrun_microcredits", filter=span), 0),
    }
