"""The audit log of a workspace: who did what, the newest first, by filters in the address; and as CSV."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils import timezone

from billing.console.figures import credits
from billing.console.paging import page_of
from billing.console.settings import AT
from billing.console.shell import render
from billing.console.visits import Visit, visiting
from billing.models import AuditEvent
from billing.moments import moment_text
from billing.permissions import Action
from billing.reports.export import csv_text

PAGE_ROWS = 50
EXPORT_ROWS = 2_000
MOST_TEXT = 160
PERIODS = {"7": "7 days", "30": "30 days", "365": "A year", "all": "All"}
KINDS = {
    "": "Every act",
    "alerts": "Alerts",
    "api_key": "API keys",
    "budget": "Budgets",
    "chain": "Fallback chains",
    "credits": "Credits",
    "member": "Members",
    "payments": "Payments",
    "preset": "Presets",
    "webhook": "Webhooks",
    "workspace": "Workspace",
}
CSV_HEAD = ("time", "actor", "action", "target", "reason", "details")

_encode = msgspec.json.Encoder(order="sorted").encode


@visiting(GET=Action.READ_AUDIT)
def audit(request: HttpRequest, visit: Visit) -> HttpResponse:
    asked = _Asked(request)
    page = page_of(request, asked.of(visit), PAGE_ROWS)
    context = {
        "asked": asked,
        "events": [(event, _told(event.details)) for event in page.rows],
        "has_more": page.older is not None,
        "last": page.older or 0,
        "is_first": page.is_first,
        "periods": list(PERIODS.items()),
        "kinds": list(KINDS.items()),
    }
    return render(request, visit, "console/audit.html", context, at=AT)


@visiting(GET=Action.READ_AUDIT)
def export(request: HttpRequest, visit: Visit) -> StreamingHttpResponse:
    """All of what the filters of the page show."""
    rows = _Asked(request).of(visit)
    response = StreamingHttpResponse(_csv_parts(rows), content_type="text/csv; charset=utf-8")
    response["content-disposition"] = 'attachment; filename="audit.csv"'
    return response


class _Asked:
    """The filters in the address. Raises Http404 for what no link of ours says."""

    def __init__(self, request: HttpRequest) -> None:
        self.period = request.GET.get("period", "30")
        self.kind = request.GET.get("kind", "")
        self.q = request.GET.get("q", "").strip()[:MOST_TEXT]
        if self.period not in PERIODS or self.kind not in KINDS or not self.q.isprintable():
            raise Http404
        self.is_filtered = bool(self.kind or self.q)

    def of(self, visit: Visit) -> QuerySet[AuditEvent]:
        rows = AuditEvent.objects.filter(workspace=visit.workspace)
        if self.period != "all":
            rows = rows.filter(created_at__gte=timezone.now() - timedelta(days=int(self.period)))
        if self.kind:
            rows = rows.filter(action__startswith=f"{self.kind}.")
        if self.q:
            rows = rows.filter(Q(actor__icontains=self.q) | Q(target__icontains=self.q) | Q(action=self.q))
        return rows


async def _csv_parts(rows: QuerySet[AuditEvent]) -> AsyncIterator[str]:
    yield csv_text([CSV_HEAD])
    rows, after = rows.order_by("-pk"), None
    while True:
        page = await sync_to_async(_read)(rows if after is None else rows.filter(pk__lt=after))
        yield csv_text(_csv_row(event) for event in page)
        if len(page) < EXPORT_ROWS:
            return
        after = page[-1].pk


def _read(rows: QuerySet[AuditEvent]) -> list[AuditEvent]:
    return list(rows[:EXPORT_ROWS])


def _csv_row(event: AuditEvent) -> tuple[str, ...]:
    """As CSV_HEAD has it."""
    details = _encode(event.details).decode() if event.details else ""
    return (moment_text(event.created_at), event.actor, event.action, event.target, event.reason, details)


def _told(details: dict[str, Any]) -> str:
    """What stands in an event, in words; what was left empty is left out."""
    return "; ".join(_pair(name, value) for name, value in details.items() if value is not None)


def _pair(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    if name.endswith("microcredits") and isinstance(value, int):
        return f"{words.removesuffix('microcredits')}{credits(value)} credits"
    return f"{words}: {', '.join(map(str, value)) or 'none' if isinstance(value, list) else value}"
