"""API keys: the list, a new one, one of them with its limits, rolling and revoking.

The text of a key stands in the one answer that made it, in a dialog that only its button closes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from billing import apikeys, quotas
from billing.console.edits import edited
from billing.console.keyforms import FIELDS, KeyForm, values_of
from billing.console.shell import render
from billing.console.usage import SERIES, UNITS, chart_of, groups_of
from billing.console.visits import Visit, found, sent, visiting
from billing.errors import KeyNotActive, KeyTooBroad
from billing.ledger.decider import period_start
from billing.models import ApiKey, UsageRecord
from billing.moments import Span, period_end
from billing.permissions import MANAGEMENT_SCOPES, SCOPES, Action
from billing.reports import usage

AT = "console-keys"
SOON = timedelta(days=7)
STATES = {"": "All", "active": "Active", "attention": "Need attention", "off": "Off"}
OVERLAPS = (("now", "At once"), ("1h", "In 1 hour"), ("24h", "In 24 hours"), ("7d", "In 7 days"))


def base_url(request: HttpRequest) -> str:
    """Where clients reach this installation, as the reader does."""
    return settings.PUBLIC_URL or f"{request.scheme}://{request.get_host()}"


@visiting(GET=Action.READ_KEYS, POST=Action.CREATE_KEYS)
def keys(request: HttpRequest, visit: Visit) -> HttpResponse:
    """The list; its form makes a key."""
    if request.method != "POST":
        return _listed(request, visit, form=KeyForm())
    form = _form(request)
    try:
        key, key_text = apikeys.mint(
            visit.workspace, form.name, actor=visit.actor, terms=apikeys.KeyTerms(**form.terms()), creator=visit.creator()
        )
    except (ValidationError, KeyTooBroad) as refusal:
        form.refuse(refusal)
        return _listed(request, visit, form=form, status=400)
    return _listed(request, visit, form=KeyForm(), made={"key": key, "text": key_text})


@visiting(GET=Action.READ_KEYS, POST=Action.UPDATE_KEYS)
def detail(request: HttpRequest, visit: Visit, key_id: str) -> HttpResponse:
    if request.method != "POST":
        key = found(_keys(visit, Action.READ_KEYS), key_id)
        return _detailed(request, visit, key, form=KeyForm.of(key))
    # The page of a playground's key has no form.
    key = found(_keys(visit, Action.UPDATE_KEYS).filter(is_playground=False), key_id)
    form = KeyForm.of(key, edited(request, values_of(key), many="scopes"))
    try:
        changes = apikeys.KeyChanges(**form.changes(key))
        apikeys.update_key(key, changes, actor=visit.actor, creator=visit.creator())
    except (ValidationError, KeyTooBroad, KeyNotActive) as refusal:
        form.refuse(refusal)
        return _detailed(request, visit, key, form=form, status=400)
    messages.success(request, "The key was changed. It counts everywhere within a second.")
    return redirect("console-key", visit.workspace.public_id, key.public_id)


@visiting(POST=Action.ROLL_KEYS)
def roll(request: HttpRequest, visit: Visit, key_id: str) -> HttpResponse:
    key = found(_keys(visit, Action.ROLL_KEYS).filter(is_playground=False), key_id)
    overlap = sent(request, "overlap")["overlap"]
    if overlap not in set(apikeys.Overlap):
        raise SuspiciousOperation("The form has no such choice.")
    try:
        rolled, key_text = apikeys.roll(key, overlap=apikeys.Overlap(overlap), actor=visit.actor, creator=visit.creator())
    except (KeyTooBroad, KeyNotActive) as refusal:
        messages.error(request, refusal.message)
        return redirect("console-key", visit.workspace.public_id, key.public_id)
    made = {"key": rolled, "text": key_text, "old": key, "overlap": dict(OVERLAPS)[overlap].lower()}
    return _listed(request, visit, form=KeyForm(), made=made)


@visiting(POST=Action.REVOKE_KEYS)
def revoke(request: HttpRequest, visit: Visit, key_id: str) -> HttpResponse:
    key = found(_keys(visit, Action.REVOKE_KEYS), key_id)
    sent(request)
    apikeys.revoke(key, actor=visit.actor)
    messages.success(request, f"{key.name} is revoked. Requests with it get 401 within a second.")
    return redirect(AT, visit.workspace.public_id)


def state_of(key: ApiKey, spent_microcredits: int, now: datetime) -> tuple[str, str, str, str]:
    """Group of the filter, kind of the badge, its icon and its word."""
    limit = quotas.of_key(key).max_budget_monthly_microcredits.value
    if key.revoked_at is not None:
        return ("off", "", "dash", "Revoked")
    if apikeys.is_expired(key):
        return ("off", "", "x", "Expired")
    if limit is not None and spent_microcredits >= limit:
        return ("attention", "bad", "ban", "Limit reached")
    if limit is not None and spent_microcredits * 10 >= limit * 9:
        return ("attention", "warn", "warn", "Near limit")
    if key.expires_at is not None and key.expires_at - now < SOON:
        return ("attention", "warn", "clock", "Expires soon")
    return ("active", "plain", "check", "Active")


def _keys(visit: Visit, action: Action) -> QuerySet[ApiKey]:
    """The keys on which the visitor may do `action`, with their layers of limits."""
    rows = ApiKey.objects.filter(workspace=visit.workspace).select_related(*quotas.KEY_LAYERS, "owner__user")
    owner = visit.owner_of(action)
    return rows if owner is None else rows.filter(owner=owner)


def _with_last_use(rows: QuerySet[ApiKey]) -> QuerySet[Any]:
    # As a range and in the order of the index by key: PostgreSQL else goes back through all requests for a key without any.
    own = UsageRecord.objects.filter(api_key__gte=OuterRef("pk"), api_key__lte=OuterRef("pk"))
    newest = own.order_by("-api_key", "-created_at").values("created_at")[:1]
    return rows.annotate(last_used=Subquery(newest))


def _listed(
    request: HttpRequest, visit: Visit, *, form: KeyForm, made: dict[str, Any] | None = None, status: int = 200
) -> HttpResponse:
    now = timezone.now()
    owner = visit.owner_of(Action.READ_KEYS)
    only = usage.Only(owner_id=None if owner is None else owner.pk)
    charged = usage.charged_by_key(visit.workspace.pk, Span(period_start("month", now), now), only)
    rows = []
    for key in _with_last_use(_keys(visit, Action.READ_KEYS)).order_by("-pk"):
        spent = charged.get(key.public_id, 0)
        limit = quotas.of_key(key).max_budget_monthly_microcredits.value
        group, *badge = state_of(key, spent, now)
        rows.append({"key": key, "spent": spent, "limit": limit, "group": group, "badge": badge, "last_used": key.last_used})
    rows.sort(key=lambda row: row["group"] == "off")
    asked, text = request.GET.get("state", ""), request.GET.get("q", "").strip()
    counts = {name: len([row for row in rows if name in {"", row["group"]}]) for name in STATES}
    shown = [row for row in rows if asked in {"", row["group"]} and _matches(row["key"], text)]
    context = {
        "rows": shown,
        "all_count": len(rows),
        "total": sum(row["spent"] for row in rows),
        "states": [(name, label, counts[name]) for name, label in STATES.items()],
        "state": asked if asked in STATES else "",
        "q": text,
        "form": form,
        "scopes": _scopes(visit),
        "made": made,
        "base_url": base_url(request),
        "month": now,
        "resets_at": period_end("month", period_start("month", now)),
    }
    return render(request, visit, "console/keys.html", context, at=AT, status=status)


def _form(request: HttpRequest) -> KeyForm:
    return KeyForm({**sent(request, *FIELDS, many="scopes"), "scopes": request.POST.getlist("scopes")})


def _matches(key: ApiKey, text: str) -> bool:
    owner = key.owner.user.get_username() if key.owner else ""
    return all(part in f"{key.name} {owner} {key.hint}".lower() for part in text.lower().split())


def _scopes(visit: Visit) -> list[str]:
    """What the visitor may give to a key, what calls models first."""
    allowed = visit.creator().scopes
    return sorted(SCOPES & allowed, key=lambda scope: (scope in MANAGEMENT_SCOPES, scope))


def _detailed(request: HttpRequest, visit: Visit, key: ApiKey, *, form: KeyForm, status: int = 200) -> HttpResponse:
    now = timezone.now()
    month = Span(period_start("month", now), now)
    only = usage.Only(key=key.public_id)
    groups = groups_of(visit.workspace.pk, month, "model", only)
    days = usage.list_days(visit.workspace.pk, month, "model", groups[:SERIES], only=only)
    last_used = _with_last_use(ApiKey.objects.filter(pk=key.pk)).values_list("last_used", flat=True).get()
    spent = usage.added_up(groups).charged_microcredits
    limits = quotas.of_key(key)
    _, *badge = state_of(key, spent, now)
    context = {
        "key": key,
        "badge": badge,
        "spent": spent,
        "last_used": last_used,
        "limit": limits.max_budget_monthly_microcredits.value,
        "limits": limits,
        "models": groups,
        "chart": chart_of(days, groups[:SERIES], month, "spend") if days else None,
        "unit": UNITS["spend"],
        "form": form,
        "scopes": _scopes(visit),
        "overlaps": OVERLAPS,
        "is_live": key.revoked_at is None and not apikeys.is_expired(key),
        "month": now,
    }
    return render(request, visit, "console/key.html", context, at=AT, status=status)
