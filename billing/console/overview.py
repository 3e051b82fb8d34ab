"""The first page of a workspace: what to do first until a call has succeeded, then how things stand."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from billing.console.keys import base_url
from billing.console.shell import render
from billing.console.visits import Visit, visiting
from billing.ledger.decider import period_start
from billing.models import ApiKey, UsageRecord
from billing.moments import Span
from billing.permissions import Action
from billing.reports import usage

AT = "console-overview"
RECENT = 8


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
