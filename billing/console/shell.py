"""What stands around every page of a workspace: where one can go, what is left of the credit, which workspaces there are."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render as render_template
from django.urls import reverse
from django.utils import timezone

from billing.announcements import SHOWN_MOST, shown_to
from billing.console.visits import Visit
from billing.permissions import Action
from billing.reports.credits import Balance
from billing.reports.pace import get_pace


class Item(NamedTuple):
    url_name: str
    icon: str
    label: str
    action: Action


SECTIONS: tuple[tuple[str, tuple[Item, ...]], ...] = (
    (
        "",
        (
            Item("console-overview", "grid", "Overview", Action.READ_WORKSPACE),
            Item("console-playground", "play", "Playground", Action.USE_PLAYGROUND),
            Item("console-usage", "chart", "Usage", Action.READ_USAGE),
            Item("console-log", "log", "Request log", Action.READ_USAGE),
        ),
    ),
    (
        "Build",
        (
            Item("console-keys", "key", "API keys", Action.READ_KEYS),
            Item("console-models", "cube", "Models", Action.READ_WORKSPACE),
            Item("console-chains", "branch", "Fallback chains", Action.READ_WORKSPACE),
            Item("console-files", "file", "Files", Action.READ_FILES),
            Item("console-docs", "book", "Docs", Action.READ_WORKSPACE),
        ),
    ),
    (
        "Workspace",
        (
            Item("console-credits", "coin", "Credits", Action.READ_CREDITS),
            Item("console-limits", "gauge", "Limits", Action.READ_BUDGETS),
            Item("console-alerts", "bell", "Alerts", Action.READ_ALERTS),
            Item("console-webhooks", "swap", "Webhooks", Action.MANAGE_WEBHOOKS),
            Item("console-members", "users", "Members", Action.READ_MEMBERS),
            Item("console-settings", "sliders", "Settings", Action.READ_WORKSPACE),
        ),
    ),
)


def render(
    request: HttpRequest, visit: Visit, template: str, context: dict[str, Any], *, at: str, status: int = 200
) -> HttpResponse:
    """A page of a workspace; `at` is the URL name of the place in the navigation that it belongs to."""
    balance, pace = None, None
    now = timezone.now()
    if visit.may(Action.READ_CREDITS):
        account = visit.account
        balance = Balance(account.posted_microcredits, account.held_microcredits)
        pace = get_pace(visit.workspace.pk, balance.available_microcredits, now)
    shell = {
        "visit": visit,
        "workspace": visit.workspace,
        "sections": _sections(visit, at),
        "place": next(item for _, items in SECTIONS for item in items if item.url_name == at),
        "place_url": reverse(at, args=[visit.workspace.public_id]),
        "announcements": list(shown_to(visit.member, now)[:SHOWN_MOST]),
        "balance": balance,
        "pace": pace,
        "may": {action.name.lower(): visit.may(action) for action in Action},
    }
    return render_template(request, template, {**shell, **context}, status=status)


def _sections(visit: Visit, at: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """What the visitor's role lets him see."""
    shown = []
    for title, items in SECTIONS:
        links = [
            {
                "url": reverse(item.url_name, args=[visit.workspace.public_id]),
                "icon": item.icon,
                "label": item.label,
                "is_current": item.url_name == at,
            }
            for item in items
            if visit.may(item.action)
        ]
        shown.append((title, links))
    return shown
