"""The first page of the staff admin: what was used, sold and held, who fails, and what waits for somebody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.core.cache import cache
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from billing.admin.announcements import LOOKS
from billing.admin.columns import badge, short_credits
from billing.admin.parts import person_of
from billing.announcements import SHOWN_MOST, current
from billing.pricing import MICROCREDITS_PER_CREDIT
from billing.reports.overview import PERIODS, Cell, Overview, get_overview
from chat.admin.charts import Chart, stacked
from chat.drift import Alarm, Topic, judge
from chat.models import CatalogModel
from chat.observing import observe
from chat.watching import Fared, targets_lately

# Staff look often, and the figures of a month are read from every request of it.
FRESH_S = 30
DRIFT_FRESH_S = 300
DEPRECATION_NEAR = timedelta(days=30)


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    person = person_of(request)
    if not person.has_perm("billing.view_usagerecord"):
        return context
    period = PERIODS.get(request.GET.get("period", ""), PERIODS["24h"])
    told: Overview = cache.get_or_set(f"overview:{period.name}", lambda: get_overview(period, timezone.now()), FRESH_S)  # type: ignore[assignment]
    sees_money = person.has_perm("billing.view_entry")
    targets = targets_lately()
    return context | {
        "title": "Overview",
        "overview": told,
        "periods": [(one.name, one.title, one.name == period.name) for one in PERIODS.values()],
        "metrics": _metrics(told, sees_money=sees_money),
        "alarms": _alarms(told, targets, sees_money=sees_money),
        "drift": _drift(person),
        "announcements": _announcements() if person.has_perm("billing.view_announcement") else [],
        "charts": _charts(told),
        "targets": [(fared, _health(fared)) for fared in targets],
    }


def _metrics(told: Overview, *, sees_money: bool) -> list[dict[str, str]]:
    share = f"{100 * told.failed / told.requests:.2f} % failed, none charged" if told.requests else "no request yet"
    first, p95 = told.first_token_median_ms, told.first_token_p95_ms
    usage = reverse("admin:billing_usagerecord_changelist")
    metrics = [
        {
            "name": "Spend",
            "figure": short_credits(told.charged),
            "unit": "credits",
            "note": "charged for requests",
            "link": usage,
        },
        {"name": "Requests", "figure": f"{told.requests:,}", "unit": "", "note": share, "link": usage},
        {
            "name": "Time to first token",
            "figure": "-" if first is None else f"{first:,}",
            "unit": "" if first is None else "ms, median",
            "note": "of the newest requests" if p95 is None else f"{p95:,} ms at the 95th percentile",
            "link": usage,
        },
    ]
    if sees_money:
        metrics += [
            {
                "name": "Credits sold",
                "figure": short_credits(told.sold),
                "unit": "credits",
                "note": f"{short_credits(told.given)} given by grants and plans",
                "link": reverse("admin:billing_entry_changelist"),
            },
            {
                "name": "Held now",
                "figure": short_credits(told.held),
                "unit": "credits",
                "note": f"{told.open_holds:,} open holds; balances are {short_credits(told.balance)}",
                "link": reverse("admin:billing_hold_changelist") + "?state__exact=open",
            },
        ]
    return metrics


def _alarms(told: Overview, targets: list[Fared], *, sees_money: bool) -> list[dict[str, str]]:
    """What somebody has to look at; nothing where all is well."""
    alarms = [
        _alarm("bad", f"{fared.upstream_model} at {fared.provider}", _failures(fared), "chat_provider_changelist")
        for fared in targets
        if fared.is_in_trouble
    ]
    if told.overdue_holds:
        why = "The sweep should have closed them: is housekeeping running?"
        alarms.append(_alarm("bad", f"{told.overdue_holds} holds past their lease", why, "billing_hold_changelist"))
    return alarms + (_money_alarms(told) if sees_money else []) + _deprecations()


def _announcements() -> list[dict[str, str]]:
    """What people in the console are told now."""
    return [
        _alarm(LOOKS[one.severity][0], one.text, "", "billing_announcement_changelist", f"?q={one.public_id}")
        for one in current(timezone.now())[:SHOWN_MOST]
    ]


# Where one looks, and what the address asks for about the model of the alarm.
_DRIFT_PAGES = {
    Topic.TOKENS: ("billing_usagerecord_changelist", "model_used__icontains"),
    Topic.UNCOUNTED: ("billing_usagerecord_changelist", "model_used__icontains"),
    Topic.OVERRUN: ("billing_usagerecord_changelist", "model_used__icontains"),
    Topic.ERRORS: ("chat_fallbackchain_route", "model"),
    Topic.FIRST_TOKEN: ("chat_fallbackchain_route", "model"),
    Topic.PROOF: ("billing_entry_reconciliation", ""),
}
_DRIFT_FOR = {Topic.OVERRUN: "billing.view_entry", Topic.PROOF: "billing.reconcile_ledger"}


def _drift(person: User) -> list[dict[str, str]]:
    """What is no longer as it was; what is about money for those who may look into it."""
    alarms: list[Alarm] = cache.get_or_set("drift", lambda: judge(observe(timezone.now())), DRIFT_FRESH_S)  # type: ignore[assignment]
    shown = []
    for alarm in alarms:
        permission = _DRIFT_FOR.get(alarm.topic)
        if permission is None or person.has_perm(permission):
            page, name = _DRIFT_PAGES[alarm.topic]
            query = f"?{urlencode({name: alarm.model})}" if name else ""
            shown.append(_alarm("bad" if alarm.is_grave else "warn", alarm.title, alarm.text, page, query))
    return shown


def _failures(fared: Fared) -> str:
    return f"{fared.failed} of its last {fared.tries} tries failed: {fared.last_failure}."


def _money_alarms(told: Overview) -> list[dict[str, str]]:
    alarms = []
    if told.waiting_orders:
        why = "A second person has to approve or refuse them."
        title = f"{told.waiting_orders} credit orders wait"
        alarms.append(_alarm("info", title, why, "billing_creditorder_changelist", "?state__exact=open"))
    return alarms


def _deprecations() -> list[dict[str, str]]:
    near = CatalogModel.objects.filter(is_enabled=True, deprecated_on__lte=timezone.now().date() + DEPRECATION_NEAR)
    why = "Give its customers a chain or a successor."
    return [
        _alarm(
            "warn",
            f"{one.slug} is deprecated on {one.deprecated_on:%d %b %Y}",
            why,
            "chat_catalogmodel_changelist",
            f"?q={one.slug}",
        )
        for one in near
    ]


def _alarm(kind: str, title: str, text: str, page: str, query: str = "") -> dict[str, str]:
    return {"kind": kind, "title": title, "text": text, "link": reverse(f"admin:{page}") + query}


def _health(fared: Fared) -> str:
    look = ("bad", "close") if fared.is_in_trouble else ("warn", "warning") if fared.failed else ("plain", "check")
    word = "In trouble" if fared.is_in_trouble else "Some fail" if fared.failed else "Good"
    return badge("", word, look)


def _charts(told: Overview) -> list[dict[str, Any]]:
    labels = [_label(key) for key in told.keys]
    step = "an hour" if told.period == "24h" else "a day"
    models = {cell.model for cell in told.cells if cell.model}
    spend = {model: _column(told, lambda cell: cell.charged, model) for model in models}
    whole = {
        "Answered": _column(told, lambda cell: cell.requests - cell.failed),
        "Failed": _column(told, lambda cell: cell.failed),
    }
    sums, counts = (
        _column(told, lambda cell: cell.first_token_sum_ms),
        _column(told, lambda cell: cell.first_token_count),
    )
    means = [total // count if count else 0 for total, count in zip(sums, counts, strict=True)]
    return [
        _chart("Spend by model", f"credits {step}", stacked(labels, spend, short_credits, axis=_credits_axis)),
        _chart("Requests", f"requests {step}", stacked(labels, whole, "{:,}".format, axis="{:,}".format)),
        _chart(
            "Time to first token", f"mean in ms, {step}", stacked(labels, {"Mean": means}, "{:,}".format, axis="{:,}".format)
        ),
    ]


def _chart(title: str, subtitle: str, chart: Chart) -> dict[str, Any]:
    return {"title": title, "subtitle": subtitle, "chart": chart, "has_data": any(bar.segments for bar in chart.bars)}


def _column(told: Overview, of: Callable[[Cell], int], model: str | None = None) -> list[int]:
    sums = dict.fromkeys(told.keys, 0)
    for cell in told.cells:
        if cell.key in sums and model in {None, cell.model}:
            sums[cell.key] += of(cell)
    return list(sums.values())


def _credits_axis(amount_microcredits: int) -> str:
    whole = amount_microcredits / MICROCREDITS_PER_CREDIT
    return f"{whole:,.0f}" if whole >= 10 or whole == 0 else f"{whole:.2g}"


def _label(key: str) -> str:
    """`14:00` of an hour, `28 Nov` of a day."""
    if len(key) > len("2026-11-28"):
        return f"{key[-2:]}:00"
    return f"{datetime.fromisoformat(key):%d %b}".lstrip("0")
