"""How long the credit of a workspace lasts if it goes on being spent as in the last days."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from django.db.models import Sum

from billing.models import UsageRecord

DAYS: Final = 3


class Pace(msgspec.Struct, frozen=True):
    """`days_left` is None where nothing was spent lately: nobody can say."""

    daily_microcredits: int
    days_left: int | None


def get_pace(workspace_id: int, available_microcredits: int, now: datetime) -> Pace:
    """One query."""
    recent = UsageRecord.objects.filter(
        workspace_id=workspace_id, created_at__gte=now - timedelta(days=DAYS), created_at__lt=now
    )
    spent = recent.aggregate(spent=Sum("charged_microcredits"))["spent"] or 0
    daily = int(spent) // DAYS
    return Pace(daily, available_microcredits // daily if daily else None)
