"""How long the credit of a workspace lasts if it goes on being spent as in the last days."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from billing.moments import Span
from billing.reports.usage import get_totals

DAYS: Final = 3


class Pace(msgspec.Struct, frozen=True):
    """`days_left` is None where nothing was spent lately: nobody can say."""

    daily_microcredits: int
    days_left: int | None


def get_pace(workspace_id: int, available_microcredits: int, now: datetime) -> Pace:
    spent = get_totals(workspace_id, Span(now - timedelta(days=DAYS), now)).charged_microcredits
    daily = spent // DAYS
    return Pace(daily, available_microcredits // daily if daily else None)
