"""What Stripe tells. Events come in any order and any number of times; each says how things stand, and booking does the rest.

What is of another product on the same account names no payment of ours, and is passed over. Refunds and disputes may be told
before the payment is: they find it by the name that it bears at Stripe, and count when it is settled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from billing.models import Payment
from billing.payments import booking, provider

_Object = Mapping[str, Any]


def handle(event: Mapping[str, Any]) -> None:
    """Raises PaymentMismatch; and Unavailable where Stripe has to be asked whose a dispute is, and does not answer."""
    if event["type"] in _OF_DISPUTES:
        _disputed(event["object"], event["created"])
    elif act := _ACTS.get(event["type"]):
        act(event["object"])


def _session_completed(session: _Object) -> None:
    if session.get("payment_status") == "paid":
        intent_id, units = str(session["payment_intent"]), int(session["amount_total"])
        booking.settle(_payment_id(session), intent_id=intent_id, units=units, currency=str(session["currency"]))


def _session_expired(session: _Object) -> None:
    booking.cancel(_payment_id(session))


def _session_failed(session: _Object) -> None:
    booking.fail(_payment_id(session), "The bank did not pay.")


def _intent_succeeded(intent: _Object) -> None:
    payment_id = _payment_id(intent)
    units, currency = int(intent["amount_received"]), str(intent["currency"])
    booking.settle(payment_id, intent_id=str(intent["id"]), units=units, currency=currency)
    booking.keep_card(
        payment_id, customer_id=str(intent.get("customer") or ""), method_id=str(intent.get("payment_method") or "")
    )


def _intent_failed(intent: _Object) -> None:
    """On the page of a checkout another card can be tried, until that is over; a charge of ours has failed."""
    payment_id = _payment_id(intent)
    if Payment.objects.filter(public_id=payment_id, origin=Payment.Origin.AUTO).exists():
        booking.fail(payment_id, provider.failure_of(intent) or "The card was declined.")


def _refunded(charge: _Object) -> None:
    # Stripe copies what its payment is named to the charge of it.
    if payment := _paid_with(charge) or _named(_payment_id(charge)):
        booking.correct(payment, refunded_units=int(charge["amount_refunded"]))


def _disputed(dispute: _Object, told_at_s: int) -> None:
    # Nothing is copied to a dispute.
    if payment := _paid_with(dispute) or _named(_asked_name(dispute)):
        status = dispute.get("status")
        units = 0 if status in _OVER_WELL else int(dispute["amount"])
        is_over = status in _OVER_WELL or status in _OVER_BADLY
        booking.correct(payment, dispute=booking.Dispute(str(dispute["id"]), units, is_over, told_at_s))


def _payment_id(named: _Object) -> str:
    return str((named.get("metadata") or {}).get("payment") or "")


def _paid_with(charge: _Object) -> Payment | None:
    """The payment of a charge or a dispute, by Stripe's id of it, which is known when it is settled."""
    intent_id = _intent_id(charge)
    return Payment.objects.filter(intent_id=intent_id).first() if intent_id else None


def _named(payment_id: str) -> Payment | None:
    return Payment.objects.filter(public_id=payment_id).first() if payment_id else None


def _asked_name(dispute: _Object) -> str:
    """Raises Unavailable."""
    intent_id = _intent_id(dispute)
    return provider.payment_named_by(intent_id) if intent_id else ""


def _intent_id(charge: _Object) -> str:
    return str(charge.get("payment_intent") or "")


_ACTS: Final[Mapping[str, Callable[[_Object], None]]] = {
    "checkout.session.completed": _session_completed,
    "checkout.session.async_payment_succeeded": _session_completed,
    "checkout.session.async_payment_failed": _session_failed,
    "checkout.session.expired": _session_expired,
    "payment_intent.succeeded": _intent_succeeded,
    "payment_intent.payment_failed": _intent_failed,
    "payment_intent.canceled": _intent_failed,
    "charge.refunded": _refunded,
}
_OF_DISPUTES: Final = {"charge.dispute.created", "charge.dispute.closed"}
_OVER_WELL: Final = {"won", "warning_closed"}
_OVER_BADLY: Final = {"lost", "prevented"}
