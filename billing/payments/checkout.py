"""A payment that a person makes on the provider's page. What came of it is told by events, or looked up when it is over."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django_tasks import task

from billing import audit
from billing.models import Payment, PaymentTerms, Workspace
from billing.payments import booking, provider
from billing.pricing import MICROCREDITS_PER_CREDIT

_LOOK_AFTER: Final = timedelta(seconds=provider.CHECKOUT_LASTS_S, minutes=5)
_LOOK_AGAIN: Final = tuple(timedelta(hours=hours) for hours in (1, 6, 24))


def price_units(amount_microcredits: int) -> int:
    """Of whole credits; in the smallest units of the currency."""
    return amount_microcredits // MICROCREDITS_PER_CREDIT * int(settings.STRIPE_UNITS_PER_CREDIT)


def checked_amount(credits: int) -> int:
    """Microcredits of whole credits that can be bought. Raises ValidationError."""
    least, most = settings.TOP_UP_LEAST_CREDITS, settings.TOP_UP_MOST_CREDITS
    if not least <= credits <= most:
        raise ValidationError(f"{least:,} to {most:,} credits can be bought at once.")
    return credits * MICROCREDITS_PER_CREDIT


def begin(workspace: Workspace, credits: int, *, keeps_card: bool, actor: str, page_url: str) -> Payment:
    """A payment with the address of the provider's page; `page_url` has `{id}` for its id.

    Raises ValidationError for an amount that cannot be bought, and when the provider does not answer.
    """
    amount = checked_amount(credits)
    with transaction.atomic():
        payment = Payment.objects.create(
            workspace=workspace,
            origin=Payment.Origin.CHECKOUT,
            amount_microcredits=amount,
            price_units=price_units(amount),
            currency=settings.STRIPE_CURRENCY,
            keeps_card=keeps_card,
            created_by=actor,
        )
        details = {"amount_microcredits": amount, "price_units": payment.price_units, "currency": payment.currency}
        audit.record("payments.begun", actor=actor, workspace=workspace, target=payment.public_id, details=details)
    terms = PaymentTerms.objects.filter(workspace=workspace).first()
    page = page_url.format(id=payment.public_id)
    try:
        made = provider.open_checkout(payment, terms.customer_id if terms else "", page, int(time.time()))
    except (provider.Unavailable, provider.Declined):
        booking.cancel(payment.public_id)
        raise ValidationError("The payment service does not answer just now. Try again in a minute.") from None
    payment.session_id, payment.checkout_url = made
    payment.save(update_fields=["session_id", "checkout_url"])
    look.using(run_after=timezone.now() + _LOOK_AFTER).enqueue(payment.public_id)
    return payment


@task()
def look(payment_id: str, attempt: int = 0) -> None:
    """What became of a checkout that is over, should its events not have come."""
    payment = Payment.objects.filter(public_id=payment_id, state=Payment.State.OPEN).select_related("workspace").first()
    if payment is None:
        return
    try:
        session = provider.checkout_of(payment)
    except (provider.Unavailable, provider.Declined):
        if attempt < len(_LOOK_AGAIN):
            look.using(run_after=timezone.now() + _LOOK_AGAIN[attempt]).enqueue(payment_id, attempt + 1)
        return
    if session.get("payment_status") == "paid":
        intent_id, units = str(session["payment_intent"]), int(session["amount_total"])
        booking.settle(payment_id, intent_id=intent_id, units=units, currency=str(session["currency"]))
    elif session.get("status") == "expired":
        booking.cancel(payment_id)
