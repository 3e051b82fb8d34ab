"""What the limits of a key have to count at this moment, from the records of its requests and its open holds."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce

from billing.budgets import family_of
from billing.ledger.decider import period_start
from billing.models import ApiKey, Hold, UsageRecord

WINDOW = timedelta(minutes=1)
# Whom the limits refuse is not counted by them.
_REFUSED_BY_LIMITS = ("rate_limit_exceeded", "concurrency_limit_exceeded", "tokens_limit_exceeded")


class Running(msgspec.Struct, frozen=True):
    """Of a key and those that rolling made of it, which count as one. `minute` are the sixty seconds before now."""

    minute_requests: int
    minute_tokens: int
    day_requests: int
    day_tokens: int
    open_requests: int


def get_running(key: ApiKey, now: datetime) -> Running:
    """Two queries: requests that have ended, and those that hold credit."""
    family = family_of(key).values("pk")
    midnight = period_start("day", now)
    minute, day = Q(created_at__gte=now - WINDOW), Q(created_at__gte=midnight)
    tokens, let_in = F("prompt_tokens") + F("completion_tokens"), ~Q(error_code__in=_REFUSED_BY_LIMITS)
    # At midnight the minute begins on the day before.
    since = min(midnight, now - WINDOW)
    ended = UsageRecord.objects.filter(api_key__in=family, created_at__gte=since).aggregate(
        minute_requests=Count("pk", filter=minute & let_in),
        minute_tokens=Coalesce(Sum(tokens, filter=minute), 0),
        day_requests=Count("pk", filter=day & let_in),
        day_tokens=Coalesce(Sum(tokens, filter=day), 0),
    )
    held = Hold.objects.filter(account__workspace=key.workspace_id, state=Hold.State.OPEN, api_key__in=family)
    return Running(**ended, open_requests=held.values("generation").distinct().count())
