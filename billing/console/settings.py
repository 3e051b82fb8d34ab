"""Settings of a workspace: its name, how long facts of requests are kept, and what is not done lightly."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, SuspiciousOperation, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing import workspaces
from billing.console.edits import edited
from billing.console.shell import render
from billing.console.visits import Visit, sent, visiting
from billing.models import ApiKey, AuditEvent
from billing.permissions import Action

AT = "console-settings"
EVENTS = 8
DAYS = {"1": "1 day", "7": "7 days", "14": "14 days", "30": "30 days"}


@visiting(GET=Action.READ_WORKSPACE, POST=Action.RENAME_WORKSPACE)
def settings(request: HttpRequest, visit: Visit) -> HttpResponse:
    if request.method != "POST":
        return _shown(request, visit)
    name = edited(request, {"name": visit.workspace.name})["name"]
    try:
        workspaces.rename_workspace(visit.workspace, name, actor=visit.actor)
    except ValidationError as refusal:
        return _shown(request, visit, name=name, error=refusal.messages[0], status=400)
    messages.success(request, f"The workspace is called {name} now.")
    return redirect(AT, visit.workspace.public_id)


@visiting(POST=Action.SET_RETENTION)
def retention(request: HttpRequest, visit: Visit) -> HttpResponse:
    days = edited(request, {"days": str(visit.workspace.traces_kept_days)})["days"]
    if days not in DAYS:
        raise SuspiciousOperation("The form has no such choice.")
    workspaces.keep_traces(visit.workspace, int(days), actor=visit.actor)
    messages.success(request, f"How requests went is kept for {DAYS[days]} now. What is older is deleted within the hour.")
    return redirect(AT, visit.workspace.public_id)


@visiting(POST=Action.STOP_SPENDING)
def stop(request: HttpRequest, visit: Visit) -> HttpResponse:
    sent(request)
    if workspaces.stop_spending(visit.workspace, actor=visit.actor):
        messages.success(request, "Spending is stopped. Every key is refused within a second, and streams end within five.")
    return redirect(AT, visit.workspace.public_id)


@visiting(POST=Action.STOP_SPENDING)
def resume(request: HttpRequest, visit: Visit) -> HttpResponse:
    sent(request)
    if workspaces.resume_spending(visit.workspace, actor=visit.actor):
        messages.success(request, "Spending goes on. The keys of the workspace work again.")
    return redirect(AT, visit.workspace.public_id)


@visiting(POST=Action.CLOSE_WORKSPACE)
def close(request: HttpRequest, visit: Visit) -> HttpResponse:
    """Whoever closes a workspace writes its name, so that it is the one he means."""
    if sent(request, "name")["name"] != visit.workspace.name:
        error = f"Write {visit.workspace.name}, exactly as it stands here."
        return _shown(request, visit, close_error=error, status=400)
    if not workspaces.close_workspace(visit.workspace, actor=visit.actor):
        raise PermissionDenied("The workspace was suspended meanwhile, so nothing in it can be changed.")
    messages.success(request, f"{visit.workspace.name} is closed. Its keys are revoked, and its files are being destroyed.")
    return redirect("console")


def _shown(request: HttpRequest, visit: Visit, *, status: int = 200, **values: str) -> HttpResponse:
    workspace = visit.workspace
    context: dict[str, Any] = {"name": workspace.name, **values, "days": DAYS.items(), "kept": str(workspace.traces_kept_days)}
    if visit.may(Action.READ_AUDIT):
        context["events"] = list(AuditEvent.objects.filter(workspace=workspace).order_by("-pk")[:EVENTS])
    if visit.may(Action.STOP_SPENDING):
        context["live_keys"] = ApiKey.objects.filter(workspace=workspace, revoked_at__isnull=True, is_playground=False).count()
    return render(request, visit, "console/settings.html", context, at=AT, status=status)
