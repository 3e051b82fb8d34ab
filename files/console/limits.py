"""Limits: those of platform, plan, member and key beside each other, what stands against each, and what happens at it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone

from billing import quotas
from billing.console.figures import count, credits, size
from billing.console.shell import render
from billing.console.visits import Visit, found, visiting
from billing.ledger.decider import period_start
from billing.members import list_members
from billing.models import ApiKey, Membership
from billing.moments import period_end
from billing.permissions import Action, Grant
from billing.reports.credits import BudgetState, get_key_spend, list_budgets_above
from billing.reports.running import Running, get_running
from files.room import Room, room_of

AT = "console-limits"
MOST_KEYS = 200
NO_LIMITS = quotas.Limits()
FROM_SETTINGS = "settings of this gateway"


class Rule(NamedTuple):
    """What a limit is called, and what happens at it. A soft one is met after the fact: the request that crosses it completes."""

    name: str
    kind: str
    effect: str
    code: str


RULES = {
    "max_budget_monthly_microcredits": Rule(
        "Credits a month", "Hard", "A request that could cross it is refused before it runs.", "key_budget_exceeded"
    ),
    "max_requests_per_minute": Rule("Requests a minute", "Hard", "The request above it is refused.", "rate_limit_exceeded"),
    "max_requests_daily": Rule("Requests a day", "Hard", "The request above it is refused.", "rate_limit_exceeded"),
    "max_concurrent_requests": Rule(
        "Requests at once", "Hard", "The request above it is refused.", "concurrency_limit_exceeded"
    ),
    "max_tokens_per_minute": Rule(
        "Tokens a minute", "Soft", "The request that crosses it completes, the next are refused.", "tokens_limit_exceeded"
    ),
    "max_tokens_daily": Rule(
        "Tokens a day", "Soft", "The request that crosses it completes, the next are refused.", "tokens_limit_exceeded"
    ),
    "allowed_models": Rule("Models", "Hard", "Every other model looks unknown.", "model_not_found"),
    "max_file_size_bytes": Rule("Largest file", "Hard", "A larger upload is refused.", "file_too_large"),
    "max_files_per_workspace": Rule("Files", "Hard", "The upload above it is refused.", "file_count_quota_exceeded"),
    "max_storage_bytes_per_workspace": Rule(
        "Storage", "Hard", "An upload that would cross it is refused.", "storage_quota_exceeded"
    ),
}
_PERIODS = {"day": "a day", "week": "a week", "month": "a month", "never": "in all"}


class Subject(msgspec.Struct, frozen=True):
    """Whose limits are shown. `running` and `month_microcredits` are known of a key alone."""

    name: str
    layers: list[quotas.Layer]
    budgets: list[BudgetState]
    key: ApiKey | None = None
    running: Running | None = None
    month_microcredits: int = 0


@visiting(GET=Action.READ_BUDGETS)
def limits(request: HttpRequest, visit: Visit) -> HttpResponse:
    now = timezone.now()
    is_own = visit.owner_of(Action.READ_BUDGETS) is not None
    keys, members = _keys(visit), _members(visit)
    # Whoever may see his own alone begins with that.
    asked = request.GET.get("of", visit.member.public_id if is_own else "")
    subject = _subject(visit, asked, keys, members, now)
    room = room_of(visit.member) if visit.may(Action.READ_FILES) else None
    context = {
        "asked": asked,
        "subject": subject,
        "sources": [source.value for source, layer in subject.layers if layer != NO_LIMITS],
        "idle": [source.value for source, layer in subject.layers if layer == NO_LIMITS],
        "rows": _rows(subject, room, now),
        "budgets": [_budget(budget, subject) for budget in subject.budgets],
        "members": list(members),
        "keys": list(keys.filter(revoked_at__isnull=True).exclude(expires_at__lte=now).order_by("name", "pk")[:MOST_KEYS]),
        "is_own": is_own,
    }
    return render(request, visit, "console/limits.html", context, at=AT)


def _keys(visit: Visit) -> QuerySet[ApiKey]:
    """The keys that the visitor may see."""
    rows = ApiKey.objects.filter(workspace=visit.workspace).select_related(*quotas.KEY_LAYERS, "owner__user")
    grant = visit.grant(Action.READ_KEYS)
    if grant is Grant.NONE:
        return rows.none()
    return rows if grant is Grant.ALL else rows.filter(owner=visit.member)


def _members(visit: Visit) -> QuerySet[Membership]:
    rows = list_members(visit.workspace).select_related("user", "preset", "workspace__plan").order_by("pk")
    owner = visit.owner_of(Action.READ_BUDGETS)
    return rows if owner is None else rows.filter(pk=owner.pk)


def _subject(visit: Visit, asked: str, keys: QuerySet[ApiKey], members: QuerySet[Membership], now: datetime) -> Subject:
    """Raises Http404 for what is unknown, or not the visitor's to see."""
    if not asked:
        budgets = [] if visit.owner_of(Action.READ_BUDGETS) else list_budgets_above(visit.workspace, now)
        return Subject(visit.workspace.name, quotas.layers_of_workspace(visit.workspace), budgets)
    if asked.startswith("mem_"):
        member = found(members, asked)
        budgets = _shown(visit, list_budgets_above(member, now))
        return Subject(member.user.get_username(), quotas.layers_of_member(member), budgets)
    if not asked.isprintable():
        raise Http404
    key = found(keys, asked)
    spend = get_key_spend(visit.workspace.pk, key.pk, now)
    budgets = _shown(visit, list(spend.budgets))
    return Subject(key.name, quotas.layers_of_key(key), budgets, key, get_running(key, now), spend.month_microcredits)


def _shown(visit: Visit, budgets: list[BudgetState]) -> list[BudgetState]:
    """What the whole workspace spends is not for whoever may see his own alone."""
    is_own = visit.owner_of(Action.READ_BUDGETS) is not None
    return [budget for budget in budgets if not (is_own and budget.scope == "workspace")]


def _rows(subject: Subject, room: Room | None, now: datetime) -> list[dict[str, Any]]:
    in_force = quotas.cascade(subject.layers)
    rows = []
    for field, rule in RULES.items():
        limit = getattr(in_force, field)
        value, source = limit.value, limit.source.value if limit.source else ""
        if room is not None and field in _ROOM:
            most = getattr(room, _ROOM[field][0])
            # Files are bounded by the gateway's own settings too.
            value, source = most, source if value == most else FROM_SETTINGS
        used, resets = _used(field, subject, room, now)
        rows.append(
            {
                "rule": rule,
                "layers": [_text(field, getattr(layer, field)) for _, layer in subject.layers if layer != NO_LIMITS],
                "value": _text(field, value) or ("every model" if field == "allowed_models" else "none"),
                "source": source,
                "used": "" if used is None else _text(field, used) or "0",
                "part": used,
                "whole": value if isinstance(value, int) and used is not None else None,
                "resets": resets,
            }
        )
    return rows


# The limit in `files.room`, and what is used of it; files go by deletion.
_ROOM = {
    "max_file_size_bytes": ("most_file_bytes", ""),
    "max_files_per_workspace": ("most_files", "used_files"),
    "max_storage_bytes_per_workspace": ("most_bytes", "used_bytes"),
}
_RUNNING = {
    "max_requests_per_minute": ("minute_requests", "as the minute passes"),
    "max_requests_daily": ("day_requests", ""),
    "max_tokens_per_minute": ("minute_tokens", "as the minute passes"),
    "max_concurrent_requests": ("open_requests", "as requests end"),
    "max_tokens_daily": ("day_tokens", ""),
}


def _used(field: str, subject: Subject, room: Room | None, now: datetime) -> tuple[int | None, str | datetime | None]:
    """What stands against the limit, None where nothing is counted for it here; and when it is free again."""
    if room is not None and _ROOM.get(field, ("", ""))[1]:
        return getattr(room, _ROOM[field][1]), "as files are deleted"
    if subject.running is None:
        return None, None
    if field == "max_budget_monthly_microcredits":
        own = [budget for budget in subject.budgets if (budget.scope, budget.period) == ("key", "month")]
        spent = own[0].spent_microcredits + own[0].held_microcredits if own else subject.month_microcredits
        return spent, period_end("month", period_start("month", now))
    if field not in _RUNNING:
        return None, None
    name, words = _RUNNING[field]
    return getattr(subject.running, name), words or period_end("day", period_start("day", now))


def _text(field: str, value: Any) -> str:
    """Empty where nothing is limited."""
    if value is None:
        return ""
    if field == "allowed_models":
        return ", ".join(sorted(value)) or "no model"
    if field.endswith("microcredits"):
        return credits(value)
    return size(value) if "bytes" in field else count(value)


def _budget(budget: BudgetState, subject: Subject) -> dict[str, Any]:
    member = "Its member" if subject.key else "This member"
    of = {"key": "This key", "member": member, "workspace": "Workspace"}[budget.scope]
    return {
        "of": of,
        "per": _PERIODS[budget.period],
        "state": budget,
        "gone": budget.limit_microcredits - budget.left_microcredits,
    }
