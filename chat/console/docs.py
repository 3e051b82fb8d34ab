"""Documentation, with this host's address and the reader's own key in its examples; without signing in too, at `/docs/`.

What a page says in figures and codes is read from the code and the settings that it is about.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import render as render_template
from django.urls import reverse
from django.utils import timezone

from billing.api.reading import DEFAULT_ROWS, MOST_ROWS
from billing.console.keys import base_url
from billing.console.shell import render
from billing.console.visits import Visit, visiting
from billing.idempotency import KEPT_FOR
from billing.models import ApiKey
from billing.models.workspaces import MOST_TRACE_DAYS
from billing.permissions import MANAGEMENT_SCOPES, Action
from billing.webhooks import deliveries, events
from chat import catalog
from chat.console.endpoints import list_groups
from chat.console.models import models_for
from chat.console.refusals import list_refusals
from chat.loading.chains import LONGEST_CHAIN
from chat.schema.route import Capability, ModelInfo

AT = "console-docs"
FIRST = "quickstart"
MANAGING = "management"
PAGES = {
    FIRST: "Quickstart",
    "streaming": "Streaming",
    "tools": "Tools and JSON",
    "files": "Images, PDFs, audio, files",
    "fallbacks": "Fallbacks and headers",
    "errors": "Errors and retries",
    "limits": "Limits",
    "idempotency": "Idempotency",
    "receipts": "Receipts",
    MANAGING: "Management API",
    "webhooks": "Webhooks",
}
# What examples call where nobody knows which models the reader has.
SOME_MODEL = "sandbox-echo"
FAILING_MODEL = "sandbox-flaky"
MIB = 1024 * 1024


@visiting(GET=Action.READ_WORKSPACE)
def workspace_page(request: HttpRequest, visit: Visit, slug: str = FIRST) -> HttpResponse:
    names = {one: reverse("console-docs-page", args=[visit.workspace.public_id, one]) for one in PAGES}
    context = _context(request, slug, names, models_for(visit)) | {
        "key": _key_of(visit, manages=slug == MANAGING),
        "base": "console/base.html",
    }
    return render(request, visit, f"docs/{slug}.html", context, at=AT)


def public_page(request: HttpRequest, slug: str = FIRST) -> HttpResponse:
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET"])
    names = {one: reverse("docs-page", args=[one]) for one in PAGES}
    context = _context(request, slug, names, []) | {"base": "docs/public.html"}
    return render_template(request, f"docs/{slug}.html", context)


def _context(request: HttpRequest, slug: str, urls: dict[str, str], models: list[ModelInfo]) -> dict[str, Any]:
    """Raises Http404 for a page that there is not."""
    if slug not in PAGES:
        raise Http404
    order = list(PAGES)
    place = order.index(slug)
    beside = {"earlier": place - 1 if place else None, "later": place + 1 if place + 1 < len(order) else None}
    return {
        "slug": slug,
        "title": PAGES[slug],
        "pages": [(one, PAGES[one], urls[one]) for one in order],
        "beside": {name: (PAGES[order[at]], urls[order[at]]) for name, at in beside.items() if at is not None},
        "base_url": base_url(request),
        "model": {
            "any": _model(models),
            **{name: _model(models, name) for name in ("tools", "json_schema", "vision", "pdf", "audio_input")},
        },
        "chained": _chained(models),
        "refusals": list_refusals() if slug == "errors" else (),
        "groups": list_groups() if slug == MANAGING else (),
        "urls": urls,
        "events": [(str(kind), event) for kind, event in events.EVENTS.items()],
        "every_event": events.EVERY,
        "webhook": {"waits": [_wait(wait) for wait in deliveries.RETRY_AFTER], "days": deliveries.DISABLE_AFTER.days},
        "facts": {
            "body_mib": settings.CHAT_BODY_LIMIT_BYTES // MIB,
            "file_mib": settings.FILE_LIMIT_BYTES // MIB,
            "pdf_pages": settings.PDF_MAX_PAGES,
            "chain": LONGEST_CHAIN,
            "idempotency_h": int(KEPT_FOR.total_seconds()) // 3600,
            "trace_days": MOST_TRACE_DAYS,
            "page_rows": DEFAULT_ROWS,
            "most_rows": MOST_ROWS,
        },
    }


def _key_of(visit: Visit, *, manages: bool) -> ApiKey | None:
    """The newest key of the reader that works, of those that manage or of the others."""
    keys = ApiKey.objects.filter(owner=visit.member, revoked_at__isnull=True, is_playground=False)
    newest = keys.exclude(expires_at__lte=timezone.now()).order_by("-pk")
    return next((key for key in newest if manages != MANAGEMENT_SCOPES.isdisjoint(key.scopes)), None)


def _wait(wait: timedelta) -> str:
    minutes = wait // timedelta(minutes=1)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h"


def _model(models: list[ModelInfo], ability: Capability | None = None) -> str:
    """A model that the reader can call: the sandbox where there is one, since it needs no provider."""
    able = [one.slug for one in models if one.modality == "chat" and (ability is None or ability in one.capabilities)]
    return SOME_MODEL if SOME_MODEL in able or not able else able[0]


def _chained(models: list[ModelInfo]) -> str:
    """A model with a fallback chain, if the reader has one; for a visitor that of the sandbox, whose first model always fails."""
    chains = catalog.current().chains
    other = FAILING_MODEL if chains.get((None, FAILING_MODEL)) else _model(models)
    return next((one.slug for one in models if chains.get((None, one.slug))), other)
