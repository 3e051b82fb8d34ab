"""Webhooks of a workspace: their addresses, what they get, a test, and the log of what went to them."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing.console.edits import begun_of, edited
from billing.console.paging import page_of
from billing.console.shell import render
from billing.console.visits import Visit, found, sent, visiting
from billing.models import Notice, WebhookDelivery, WebhookEndpoint
from billing.permissions import Action
from billing.webhooks import deliveries, endpoints

AT = "console-webhooks"
DETAIL = "console-webhook"
PAGE_ROWS = 30
_MANAGE = Action.MANAGE_WEBHOOKS
_STATES = {"waiting": ("info", "clock"), "delivered": ("plain", "check"), "failed": ("bad", "x")}


@visiting(GET=_MANAGE, POST=_MANAGE)
def webhooks(request: HttpRequest, visit: Visit) -> HttpResponse:
    """The list; its form makes one."""
    if request.method != "POST":
        return _listed(request, visit)
    url, kinds = _form(request)
    try:
        endpoint, secret = endpoints.create(visit.workspace, url, kinds, actor=visit.actor)
    except ValidationError as refusal:
        return _listed(request, visit, url=url, chosen=kinds, errors=_errors(refusal))
    return _listed(request, visit, made={"endpoint": endpoint, "secret": secret})


@visiting(GET=_MANAGE, POST=_MANAGE)
def detail(request: HttpRequest, visit: Visit, hook_id: str) -> HttpResponse:
    """One webhook with its log; its form changes it."""
    endpoint = found(_own(visit), hook_id)
    if request.method != "POST":
        return _detailed(request, visit, endpoint)
    values, chosen = edited(request, _values(endpoint), many="kinds"), request.POST.getlist("kinds")
    url, kinds = values["url"], values["kinds"]
    # One that names no kind gets all of them.
    if not chosen and (begun_of(request) or {}).get("kinds"):
        kinds = []
    if chosen and not kinds:
        words = "What you left was taken away meanwhile. Save again to have just that sent."
        return _detailed(request, visit, endpoint, url=url, chosen=chosen, errors={"kinds": words})
    try:
        endpoints.update(endpoint, url, kinds, actor=visit.actor)
    except ValidationError as refusal:
        return _detailed(request, visit, endpoint, url=url, chosen=kinds, errors=_errors(refusal))
    messages.success(request, "The webhook was changed.")
    return redirect(DETAIL, visit.workspace.public_id, hook_id)


@visiting(POST=_MANAGE)
def test(request: HttpRequest, visit: Visit, hook_id: str) -> HttpResponse:
    endpoint = found(_own(visit), hook_id)
    sent(request)
    if endpoint.disabled_at is not None:
        messages.error(request, "The webhook is disabled. Enable it first.")
        return redirect(DETAIL, visit.workspace.public_id, hook_id)
    try:
        deliveries.send_test(endpoint)
    except ValidationError as refusal:
        messages.error(request, refusal.messages[0])
    else:
        messages.success(request, "A test is on its way. Load this page again in a moment to see what came of it.")
    return redirect(DETAIL, visit.workspace.public_id, hook_id)


@visiting(POST=_MANAGE)
def again(request: HttpRequest, visit: Visit, hook_id: str, delivery_id: str) -> HttpResponse:
    endpoint = found(_own(visit), hook_id)
    delivery = found(WebhookDelivery.objects.filter(endpoint=endpoint).select_related("endpoint__workspace"), delivery_id)
    sent(request)
    if deliveries.send_again(delivery, actor=visit.actor):
        messages.success(request, "The message is sent again.")
    else:
        messages.error(request, "Only what failed is sent again, and not to a webhook that is disabled.")
    return redirect(DETAIL, visit.workspace.public_id, hook_id)


@visiting(POST=_MANAGE)
def roll(request: HttpRequest, visit: Visit, hook_id: str) -> HttpResponse:
    endpoint = found(_own(visit), hook_id)
    sent(request)
    secret = endpoints.roll_secret(endpoint, actor=visit.actor)
    return _detailed(request, visit, endpoint, made={"endpoint": endpoint, "secret": secret})


@visiting(POST=_MANAGE)
def enable(request: HttpRequest, visit: Visit, hook_id: str) -> HttpResponse:
    endpoint = found(_own(visit), hook_id)
    sent(request)
    endpoints.enable(endpoint, actor=visit.actor)
    messages.success(request, "The webhook is enabled. It gets what happens from now on.")
    return redirect(DETAIL, visit.workspace.public_id, hook_id)


@visiting(POST=_MANAGE)
def remove(request: HttpRequest, visit: Visit, hook_id: str) -> HttpResponse:
    endpoint = found(_own(visit), hook_id)
    sent(request)
    endpoints.remove(endpoint, actor=visit.actor)
    messages.success(request, "The webhook was removed.")
    return redirect(AT, visit.workspace.public_id)


def _listed(
    request: HttpRequest,
    visit: Visit,
    *,
    url: str = "",
    chosen: list[str] | None = None,
    errors: dict[str, str] | None = None,
    made: dict[str, Any] | None = None,
) -> HttpResponse:
    context = {
        "endpoints": list(_own(visit)),
        "url": url,
        "kinds": _choices(chosen or []),
        "errors": errors or {},
        "made": made,
    }
    return render(request, visit, "console/webhooks.html", context, at=AT, status=400 if errors else 200)


def _detailed(
    request: HttpRequest,
    visit: Visit,
    endpoint: WebhookEndpoint,
    *,
    url: str | None = None,
    chosen: list[str] | None = None,
    errors: dict[str, str] | None = None,
    made: dict[str, Any] | None = None,
) -> HttpResponse:
    page = page_of(request, WebhookDelivery.objects.filter(endpoint=endpoint), PAGE_ROWS)
    context = {
        "endpoint": endpoint,
        "now": _values(endpoint),
        "url": endpoint.url if url is None else url,
        "kinds": _choices(endpoint.kinds if chosen is None else chosen),
        "errors": errors or {},
        "made": made,
        "deliveries": [(row, *_STATES[row.state]) for row in page.rows],
        "older": page.older,
        "is_first": page.is_first,
    }
    return render(request, visit, "console/webhook.html", context, at=AT, status=400 if errors else 200)


def _own(visit: Visit) -> QuerySet[WebhookEndpoint]:
    return endpoints.list_endpoints(visit.workspace).select_related("workspace")


def _form(request: HttpRequest) -> tuple[str, list[str]]:
    return sent(request, "url", many="kinds")["url"], request.POST.getlist("kinds")


def _values(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """What the form of one that is there shows."""
    return {"url": endpoint.url, "kinds": endpoint.kinds or [kind.value for kind in Notice.Kind]}


def _choices(chosen: list[str]) -> list[tuple[str, str, bool]]:
    """Without any chosen all are."""
    return [(kind.value, kind.label, not chosen or kind.value in chosen) for kind in Notice.Kind]


def _errors(refusal: ValidationError) -> dict[str, str]:
    return {name: texts[0] for name, texts in refusal.message_dict.items()}
