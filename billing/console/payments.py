"""Payments: topping up by the provider's page, what was paid, and top-ups by themselves. Only where payments are set up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from billing.console.credits import AT, shown
from billing.console.edits import begun_of, edited
from billing.console.paging import page_of
from billing.console.shell import render
from billing.console.visits import Visit, found, sent, visiting
from billing.models import Payment, PaymentTerms
from billing.payments import auto, checkout, provider
from billing.permissions import Action
from billing.pricing import MICROCREDITS_PER_CREDIT

LIST = "console-payments"
DETAIL = "console-payment"
PAGE_ROWS = 30
OWN = "own"
_MOST_DIGITS_OF_CREDITS = 12
_LOOKS = {"open": ("info", "clock"), "paid": ("plain", "check"), "failed": ("bad", "x"), "canceled": ("", "dash")}


@visiting(POST=Action.TOP_UP_CREDITS)
def top_up(request: HttpRequest, visit: Visit) -> HttpResponse:
    """Begins a payment, whose page leads to the provider's."""
    _configured()
    values = sent(request, "credits", OWN, "keep")
    page = request.build_absolute_uri(reverse(DETAIL, args=[visit.workspace.public_id, "PAYMENT"])).replace("PAYMENT", "{id}")
    try:
        credits = _chosen(values["credits"], values[OWN])
        made = checkout.begin(visit.workspace, credits, keeps_card=bool(values["keep"]), actor=visit.actor, page_url=page)
    except ValidationError as refusal:
        return shown(request, visit, chosen=values["credits"], own=values[OWN], top_up_error=refusal.messages[0], status=400)
    return redirect(f"{reverse(DETAIL, args=[visit.workspace.public_id, made.public_id])}?pay=now")


@visiting(GET=Action.READ_CREDITS)
def payments(request: HttpRequest, visit: Visit) -> HttpResponse:
    _configured()
    return _listed(request, visit)


@visiting(GET=Action.READ_CREDITS)
def payment(request: HttpRequest, visit: Visit, payment_id: str) -> HttpResponse:
    """How one stands; where Stripe's page leads back to."""
    _configured()
    one = found(Payment.objects.filter(workspace=visit.workspace), payment_id)
    context = {"payment": one, "look": _LOOKS[one.state], "goes_on": request.GET.get("pay") == "now"}
    return render(request, visit, "console/payment.html", context, at=AT)


@visiting(POST=Action.TOP_UP_CREDITS)
def set_auto(request: HttpRequest, visit: Visit) -> HttpResponse:
    _configured()
    values = edited(request, _shown(PaymentTerms.objects.filter(workspace=visit.workspace).first()))
    if words := _stale_switch(request, values):
        return _listed(request, visit, values=values, errors={"state": words})
    try:
        wanted = None if values["state"] == "off" else _auto(values)
        auto.set_auto(visit.workspace, wanted, actor=visit.actor)
    except ValidationError as refusal:
        errors = {name: texts[0] for name, texts in refusal.message_dict.items()}
        return _listed(request, visit, values=values, errors=errors)
    messages.success(request, "Auto top-up is off." if wanted is None else "Auto top-up is on.")
    return redirect(LIST, visit.workspace.public_id)


def _stale_switch(request: HttpRequest, values: Mapping[str, str]) -> str:
    """Why a page that was open for long switches nothing on; empty where it may. A card is charged by sums that somebody saw."""
    begun = begun_of(request)
    if values["state"] == "off":
        is_stale = request.POST.get("state") != "off"
        return "It was switched off meanwhile, and stays off until you switch it on." if is_stale else ""
    has_other_sums = any(values[name] != request.POST.get(name, "").strip() for name in _amounts(None))
    if begun is not None and begun.get("state") == "off" and has_other_sums:
        return "The sums were changed meanwhile. Look at them, and switch it on again."
    return ""


def _listed(
    request: HttpRequest, visit: Visit, *, values: Mapping[str, str] | None = None, errors: Mapping[str, str] | None = None
) -> HttpResponse:
    page = page_of(request, Payment.objects.filter(workspace=visit.workspace), PAGE_ROWS)
    terms = PaymentTerms.objects.filter(workspace=visit.workspace).first()
    now = _shown(terms)
    context = {
        "payments": [(row, _LOOKS[row.state]) for row in page.rows],
        "older": page.older,
        "is_first": page.is_first,
        "terms": terms,
        "now": now,
        "values": values or now,
        "errors": errors or {},
        "charged": auto.charged_this_month(visit.workspace.pk, timezone.now()),
    }
    return render(request, visit, "console/payments.html", context, at=AT, status=400 if errors else 200)


def _shown(terms: PaymentTerms | None) -> dict[str, str]:
    """What the form of top-ups by themselves begins with."""
    return {"state": "on" if terms is not None and terms.is_auto else "off", **_amounts(terms)}


def _amounts(terms: PaymentTerms | None) -> dict[str, str]:
    if terms is None or terms.amount_microcredits is None:
        preset = settings.TOP_UP_PRESETS_CREDITS[0]
        return {"threshold": str(preset // 10), "amount": str(preset), "ceiling": str(10 * preset)}
    amounts = {
        "threshold": terms.threshold_microcredits,
        "amount": terms.amount_microcredits,
        "ceiling": terms.ceiling_microcredits,
    }
    return {name: str((amount or 0) // MICROCREDITS_PER_CREDIT) for name, amount in amounts.items()}


def _auto(values: Mapping[str, str]) -> auto.Auto:
    """Raises ValidationError, by the name of the field."""
    numbers: dict[str, Any] = {}
    for name in ("threshold", "amount", "ceiling"):
        try:
            numbers[name] = _whole(values[name])
        except ValidationError as refusal:
            raise ValidationError({name: refusal.messages}) from None
    return auto.Auto(**numbers)


def _chosen(choice: str, own: str) -> int:
    """Credits: those of the choice, or one's own sum. Raises ValidationError for both, for either could be what is meant."""
    if choice == OWN:
        return _whole(own)
    offered = _whole(choice)
    if own:
        raise ValidationError(
            f"{offered:,} credits are chosen above, and a sum is typed here. To buy what is typed choose “A sum of your own”; "
            "otherwise clear this field."
        )
    return offered


def _whole(text: str) -> int:
    plain = text.replace(",", "")
    if not (plain.isascii() and plain.isdigit() and len(plain) <= _MOST_DIGITS_OF_CREDITS):
        raise ValidationError("A whole number of credits, such as 2500.")
    return int(plain)


def _configured() -> None:
    """Without a provider there is no such page. Raises Http404."""
    if not provider.is_configured():
        raise Http404
