"""Putting an announcement away, for oneself."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from billing import announcements
from billing.console.visits import Visit, found, sent, visiting
from billing.permissions import Action


@visiting(POST=Action.READ_WORKSPACE)
def dismiss(request: HttpRequest, visit: Visit, announcement_id: str) -> HttpResponse:
    """Back to the page on which it stood; `next` is its path, and counts within this workspace only."""
    page = sent(request, "next")["next"]
    announcements.dismiss(found(announcements.meant_for(visit.member, timezone.now()), announcement_id), visit.user)
    if page.startswith(f"/console/{visit.workspace.public_id}/") and page.isprintable():
        return redirect(page)
    return redirect("console-overview", visit.workspace.public_id)
