"""Usage: what was spent, by whom and on what, day by day. Chart, table and CSV add up the same requests.

The chart is read right after the table, and may have a request that was booked between them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone

from billing.console.figures import money
from billing.console.shell import render
from billing.console.visits import Visit, visiting
from billing.ledger.decider import period_start
from billing.moments import Span
from billing.permissions import Action
from billing.pricing import credits_text
from billing.reports import usage
from billing.reports.export import csv_text

AT = "console-usage"
PERIODS = {"7": "7 days", "30": "30 days", "month": "Month to date", "90": "90 days"}
METRICS = {"spend": "Spend", "tokens": "Tokens", "requests": "Requests"}
UNITS = {"spend": "credits", "tokens": "tokens", "requests": "requests"}
GROUPINGS = {"model": "Model", "key": "Key", "member": "Member", "user": "User field"}
SERIES = 7
MOST_GROUPS = 100
"""Rows of the table; the groups after them are one row more, and in the CSV."""
CSV_HEAD = ("group", "requests", "failed", "prompt_tokens", "completion_tokens", "cached_tokens", "credits")


@visiting(GET=Action.READ_USAGE)
def usage_page(request: HttpRequest, visit: Visit) -> HttpResponse:
    asked = _Asked(request, visit)
    groups = groups_of(visit.workspace.pk, asked.span, asked.grouping, asked.only)
    days = usage.list_days(visit.workspace.pk, asked.span, asked.grouping, groups[:SERIES], only=asked.only)
    times = usage.first_token_times(visit.workspace.pk, asked.span, asked.grouping, only=asked.only)
    shown = [
        {
            "name": name_of(group),
            "totals": group.totals,
            "series": min(place + 1, SERIES + 1),
            "mean": round(group.first_token_sum_ms / group.first_token_count) if group.first_token_count else None,
            "first": times.get(tuple(group.labels.values())),
        }
        for place, group in enumerate(groups[:MOST_GROUPS])
    ]
    others = groups[MOST_GROUPS:]
    context = {
        "asked": asked,
        "groups": shown,
        "others": {"count": len(others), "totals": usage.added_up(others)} if others else None,
        "totals": usage.added_up(groups),
        "chart": chart_of(days, groups[:SERIES], asked.span, asked.metric),
        "most_streams": usage.FIRST_TOKEN_ROWS,
        "periods": list(PERIODS.items()),
        "metrics": list(METRICS.items()),
        "groupings": list(GROUPINGS.items()),
        "unit": UNITS[asked.metric],
        "own": asked.only.owner_id is not None,
        "last_day": asked.span.end,
    }
    return render(request, visit, "console/usage.html", context, at=AT)


@visiting(GET=Action.READ_USAGE)
def export(request: HttpRequest, visit: Visit) -> HttpResponse:
    """All groups, of which the page shows the first."""
    asked = _Asked(request, visit)
    rows: list[tuple[str | int | Decimal, ...]] = [CSV_HEAD]
    for group in groups_of(visit.workspace.pk, asked.span, asked.grouping, asked.only):
        totals = group.totals
        counts = (totals.requests, totals.failed_requests, totals.prompt_tokens, totals.completion_tokens, totals.cached_tokens)
        rows.append((name_of(group), *counts, Decimal(credits_text(totals.charged_microcredits))))
    response = HttpResponse(csv_text(rows), content_type="text/csv; charset=utf-8")
    response["content-disposition"] = 'attachment; filename="usage.csv"'
    return response


class _Asked:
    """What the address of the page says. Raises Http404 for what no link of ours says."""

    def __init__(self, request: HttpRequest, visit: Visit) -> None:
        self.now = timezone.now()
        self.period = _choice(request, "period", PERIODS, "month")
        self.metric = _choice(request, "metric", METRICS, "spend")
        self.grouping = _choice(request, "by", GROUPINGS, "model")
        self.span = Span(_start(self.period, self.now), self.now)
        owner = visit.owner_of(Action.READ_USAGE)
        self.only = usage.Only(owner_id=owner.pk if owner else None)
        self.metric_label, self.group_label = METRICS[self.metric], GROUPINGS[self.grouping]


def _choice(request: HttpRequest, name: str, choices: dict[str, str], default: str) -> str:
    value = request.GET.get(name, default)
    if value not in choices:
        raise Http404
    return value


def _start(period: str, now: datetime) -> datetime:
    if period == "month":
        return period_start("month", now)
    return period_start("day", now) - timedelta(days=int(period) - 1)


def groups_of(workspace_id: int, span: Span, grouping: str, only: usage.Only) -> list[usage.Group]:
    """All groups, the dearest first, of those that cost the same the busiest."""
    groups = usage.list_groups(workspace_id, span, grouping, only=only)
    return sorted(groups, key=lambda group: (-group.totals.charged_microcredits, -group.totals.requests, name_of(group)))


def name_of(group: usage.Group) -> str:
    """By which a person knows it."""
    *_, name = group.labels.values()
    return str(name) if name else "none"


def _amount(totals: usage.Totals, metric: str) -> int:
    if metric == "spend":
        return totals.charged_microcredits
    return totals.requests if metric == "requests" else totals.prompt_tokens + totals.completion_tokens


def chart_of(days: list[usage.Day], leading: list[usage.Group], span: Span, metric: str) -> dict[str, Any]:
    """What the chart draws: a series for each of the leading groups and one for all others, a number for each day."""
    first = span.start.date()
    length = (span.end.date() - first).days + 1
    labels = [name_of(group) for group in leading]
    if any(one.place == len(leading) for one in days):
        labels.append("other")
    values = [[0] * length for _ in labels]
    for one in days:
        values[one.place][(one.day - first).days] += _amount(one.totals, metric)
    is_money = metric == "spend"
    return {
        "days": [(first + timedelta(days=offset)).isoformat() for offset in range(length)],
        "unit": UNITS[metric],
        # Credits are drawn as numbers of the chart, and told as exact texts.
        "scale": 1_000_000 if is_money else 1,
        "series": [
            {
                "label": label,
                "values": series,
                "texts": [money(value, 4) if is_money else f"{value:,}" for value in series],
            }
            for label, series in zip(labels, values, strict=True)
        ],
        "sums": [money(sum(day), 4) if is_money else f"{sum(day):,}" for day in zip(*values, strict=True)],
    }
