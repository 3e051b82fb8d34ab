"""Alerts: at what figures a workspace is told, who of its people gets which mail, and what was told lately."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing.alerts import terms
from billing.alerts.judging import ANSWERS_LEAST, DEPRECATION_DAYS, USED_WITHIN, Terms
from billing.alerts.terms import KINDS, Kind, Recipients, Role
from billing.console.edits import edited
from billing.console.paging import MOST_DIGITS, page_of
from billing.console.shell import render
from billing.console.visits import Visit, visiting
from billing.models import AlertTerms, Notice
from billing.permissions import Action, Grant
from billing.pricing import AmountError, credits_text, microcredits

AT = "console-alerts"
PAGE_ROWS = 30
_TOLD = "told"


@visiting(GET=Action.READ_ALERTS, POST=Action.SET_ALERTS)
def alerts(request: HttpRequest, visit: Visit) -> HttpResponse:
    if request.method != "POST":
        return _shown(request, visit)
    values = edited(request, _values(visit), many=_TOLD)
    try:
        terms.set_terms(visit.workspace, _terms(values), _recipients(values[_TOLD]), actor=visit.actor)
    except ValidationError as refusal:
        return _shown(request, visit, values=values, errors=refusal.message_dict)
    messages.success(request, "The alerts are set. They count from the next look at the figures, within a minute or so.")
    return redirect(AT, visit.workspace.public_id)


def _shown(
    request: HttpRequest, visit: Visit, *, values: Mapping[str, Any] | None = None, errors: Mapping[str, Any] | None = None
) -> HttpResponse:
    # Of the kinds that the visitor could see on the pages that show the same.
    kinds = [kind for kind in KINDS if terms.may_be_told(kind, Role(visit.member.role)) is Grant.ALL]
    page = page_of(request, Notice.objects.filter(workspace=visit.workspace, kind__in=kinds), PAGE_ROWS)
    now = _values(visit)
    shown = values or now
    context = {
        "now": now,
        "values": shown,
        "errors": {name: texts[0] for name, texts in (errors or {}).items()},
        "answers_least": ANSWERS_LEAST,
        "used_days": USED_WITHIN.days,
        "deprecation_days": DEPRECATION_DAYS,
        "kinds": [(kind.label, _choices(kind, shown[_TOLD])) for kind in KINDS],
        "notices": page.rows,
        "older": page.older,
        "is_first": page.is_first,
    }
    return render(request, visit, "console/alerts.html", context, at=AT, status=400 if errors else 200)


def _values(visit: Visit) -> dict[str, Any]:
    """What the form shows."""
    row = AlertTerms.objects.filter(workspace=visit.workspace).first()
    now = terms.terms_of(row)
    return {
        "low_balances": ", ".join(credits_text(amount) for amount in now.low_balances),
        "key_percents": ", ".join(map(str, now.key_percents)),
        "budget_percents": ", ".join(map(str, now.budget_percents)),
        "quota_percents": ", ".join(map(str, now.quota_percents)),
        "expiry_days": str(now.expiry_days),
        "fallback_percent": str(now.fallback_percent),
        _TOLD: [f"{kind.value}/{role.value}" for kind, roles in terms.recipients_of(row).items() for role in roles],
    }


def _choices(kind: Kind, told: list[str]) -> list[tuple[str, str, bool]]:
    """A check box for each role that may see such a thing: its value, its label, whether it is checked."""
    choices = []
    for role in Role:
        grant = terms.may_be_told(kind, role)
        if grant is not Grant.NONE:
            value = f"{kind.value}/{role.value}"
            choices.append((value, f"{role.label}, own" if grant is Grant.OWN else role.label, value in told))
    return choices


def _terms(values: Mapping[str, str]) -> Terms:
    """Raises ValidationError, by the name of the field."""
    return Terms(
        _amounts(values["low_balances"]),
        _percents(values, "key_percents"),
        _percents(values, "budget_percents"),
        _number(values, "expiry_days", "A whole number of days; 0 for no such alert."),
        _percents(values, "quota_percents"),
        _number(values, "fallback_percent", "A whole percentage; 0 for no such alert."),
    )


def _number(values: Mapping[str, str], name: str, refusal: str) -> int:
    text = values[name] or "0"
    if not (text.isascii() and text.isdigit() and len(text) < MOST_DIGITS):
        raise ValidationError({name: refusal})
    return int(text)


def _amounts(text: str) -> tuple[int, ...]:
    try:
        return tuple(microcredits(part) for part in _parts(text))
    except AmountError:
        raise ValidationError({"low_balances": "Credits with commas between them, such as 100, 10."}) from None


def _percents(values: Mapping[str, str], name: str) -> tuple[int, ...]:
    parts = _parts(values[name])
    if not all(part.isascii() and part.isdigit() and len(part) < MOST_DIGITS for part in parts):
        raise ValidationError({name: "Percentages with commas between them, such as 50, 90."})
    return tuple(map(int, parts))


def _parts(text: str) -> list[str]:
    return [part for part in (one.strip().removesuffix("%").strip() for one in text.split(",")) if part]


def _recipients(told: list[str]) -> Recipients:
    chosen: dict[Kind, set[Role]] = {kind: set() for kind in KINDS}
    try:
        for value in told:
            kind, _, role = value.partition("/")
            chosen[Kind(kind)].add(Role(role))
    except (ValueError, KeyError):
        raise ValidationError({"recipients": "Choose among the roles that are there."}) from None
    return {kind: frozenset(roles) for kind, roles in chosen.items()}
