"""The first page of a workspace: what to do first until a call has succeeded, then how things stand. And its settings."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from billing.console.keys import base_url
from billing.console.shell import render
from billing.console.visits import Visit, sent, visiting
from billing.ledger.decider import period_start
from billing.models import ApiKey, AuditEvent, UsageRecord
from billing.moments import Span
from billing.permissions import Action
from billing.reports import usage
from billing.workspaces import rename_workspace

AT = "console-overview"
SETTINGS = "console-settings"
RECENT = 8
EVENTS = 50


@visiting(GET=Action.READ_WORKSPACE)
def overview(request: HttpRequest, visit: Visit) -> HttpResponse:
    is_reader = visit.may(Action.READ_USAGE)
    own = visit.owner_of(Action.READ_USAGE) if is_reader else None
    only = usage.Only(owner_id=own.pk if own else None)
    workspace_id, now = visit.workspace.pk, timezone.now()
    succeeded = UsageRecord.objects.filter(workspace_id=workspace_id, status__lt=400, charged_microcredits__gt=0)
    has_called = succeeded.exists()
    keys = ApiKey.objects.filter(workspace_id=workspace_id, revoked_at__isnull=True, is_playground=False)
    context = {
        "has_called": has_called,
        "has_key": has_called or keys.exists(),
        "base_url": base_url(request),
        "month": usage.get_totals(workspace_id, Span(period_start("month", now), now), only) if is_reader else None,
        "today": usage.get_totals(workspace_id, Span(period_start("day", now), now), only) if is_reader else None,
        "recent": usage.list_requests(workspace_id, usage.recent(now), limit=RECENT, only=only).rows if is_reader else [],
    }
    return render(request, visit, "console/overview.html", context, at=AT)


@visiting(GET=Action.READ_WORKSPACE, POST=Action.RENAME_WORKSPACE)
def settings(request: HttpRequest, visit: Visit) -> HttpResponse:
    error, name = "", visit.workspace.name
    if request.method == "POST":
        name = sent(request, "name")["name"]
        try:
            rename_workspace(visit.workspace, name, actor=visit.actor)
        except ValidationError as refusal:
            error = refusal.messages[0]
        else:
            messages.success(request, f"The workspace is called {name} now.")
            return redirect(SETTINGS, visit.workspace.public_id)
    events = AuditEvent.objects.filter(workspace=visit.workspace).order_by("-pk")[:EVENTS]
    is_trusted = visit.may(Action.RENAME_WORKSPACE)
    context = {"name": name, "error": error, "events": list(events) if is_trusted else None}
    return render(request, visit, "console/settings.html", context, at=SETTINGS, status=400 if error else 200)
