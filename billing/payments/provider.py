"""Calls to Stripe, and the proof that an event is Stripe's. Blocking; each call has 10 seconds.

Each call that makes something is named by the id of our payment, so that one which is made again makes nothing new.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import stripe
from django.conf import settings

from billing.models import Payment, PaymentTerms

ANSWER_S: Final = 10
CHECKOUT_LASTS_S: Final = 3600
_TOLERANCE_S: Final = 300
_CLOCKS_DIFFER_S: Final = 600
_MOST_LISTED: Final = 100
_NOT_FOUND: Final = 404

stripe.enable_telemetry = False


class Declined(Exception):
    """The card was not charged; the message is Stripe's, for the one who owns it."""


class Unavailable(Exception):
    """Stripe did not answer, or not as it should; whether something happened is not known."""


class Unknown(Unavailable):
    """Stripe has no such thing on this account."""


class BadEvent(Exception):
    """Not signed by Stripe, signed too long ago, or no event."""


class Intent(msgspec.Struct, frozen=True):
    """Stripe's payment: `units` is what it received, `failure` why it did not, in words for the one who pays, or empty."""

    id: str
    status: str
    units: int
    currency: str
    failure: str


def is_configured() -> bool:
    return bool(settings.STRIPE_SECRET_KEY and settings.STRIPE_WEBHOOK_SECRET)


def open_checkout(payment: Payment, customer_id: str, page_url: str, now_s: int) -> tuple[str, str]:
    """Id and address of Stripe's page for this payment; it leads back to `page_url`. Raises Unavailable, Declined."""
    named = {"payment": payment.public_id, "workspace": payment.workspace.public_id}
    intent: dict[str, Any] = {"metadata": named}
    if payment.keeps_card:
        intent["setup_future_usage"] = "off_session"
    line = {
        "quantity": 1,
        "price_data": {
            "currency": payment.currency,
            "unit_amount": payment.price_units,
            "product_data": {"name": f"Credits for {payment.workspace.name}"},
        },
    }
    asked: dict[str, Any] = {
        "mode": "payment",
        "client_reference_id": payment.public_id,
        "metadata": named,
        "line_items": [line],
        "payment_intent_data": intent,
        "success_url": page_url,
        "cancel_url": page_url,
        "expires_at": now_s + CHECKOUT_LASTS_S,
    }
    asked |= {"customer": customer_id} if customer_id else {"customer_creation": "always"}
    made = _asked(lambda client, options: client.v1.checkout.sessions.create(asked, options), payment)
    return str(made["id"]), str(made["url"])


def checkout_of(payment: Payment) -> dict[str, Any]:
    """The session as Stripe has it now. Raises Unavailable, Declined."""
    return _asked(lambda client, _: client.v1.checkout.sessions.retrieve(payment.session_id), payment)


def payment_named_by(intent_id: str) -> str:
    """The id of our payment that Stripe's names; empty for one of another product. Raises Unavailable."""
    try:
        intent = _asked(lambda client, _: client.v1.payment_intents.retrieve(intent_id))
    except Unknown:
        return ""
    return str((intent.get("metadata") or {}).get("payment") or "")


def charge(payment: Payment, terms: PaymentTerms) -> Intent:
    """Charge the card of the workspace. Raises Declined, Unavailable."""
    asked: Any = {
        "amount": payment.price_units,
        "currency": payment.currency,
        "customer": terms.customer_id,
        "payment_method": terms.method_id,
        "off_session": True,
        "confirm": True,
        "metadata": {"payment": payment.public_id, "workspace": payment.workspace.public_id},
    }
    return _intent(_asked(lambda client, options: client.v1.payment_intents.create(asked, options), payment))


def charge_of(payment: Payment, terms: PaymentTerms) -> Intent | None:
    """The charge that was made for this payment, None where there is none. Raises Unavailable, Declined.

    By the list of the customer's, which has a charge as soon as it is made; Stripe's search may be minutes behind.
    """
    since_s = int(payment.created_at.timestamp()) - _CLOCKS_DIFFER_S
    asked: Any = {"customer": terms.customer_id, "created": {"gte": since_s}, "limit": _MOST_LISTED}
    listed = _asked(lambda client, _: client.v1.payment_intents.list(asked))["data"]
    return next((_intent(made) for made in listed if (made.get("metadata") or {}).get("payment") == payment.public_id), None)


def failure_of(intent: Mapping[str, Any]) -> str:
    """Why Stripe's payment did not come, in words for the one who pays; empty where Stripe says nothing."""
    if intent.get("status") == "canceled":
        reason = str(intent.get("cancellation_reason") or "").replace("_", " ")
        return f"Stripe canceled the charge: {reason}." if reason else "Stripe canceled the charge."
    return str((intent.get("last_payment_error") or {}).get("message") or "")


def event_of(body: bytes, signature: str) -> dict[str, Any]:
    """The event of a request: `type`, `object`, and `created` in seconds of the epoch. Raises BadEvent."""
    try:
        stripe.WebhookSignature.verify_header(body, signature, settings.STRIPE_WEBHOOK_SECRET, _TOLERANCE_S)
        event = json.loads(body)
        return {"type": str(event["type"]), "object": dict(event["data"]["object"]), "created": int(event["created"])}
    except (stripe.SignatureVerificationError, ValueError, KeyError, TypeError) as error:
        raise BadEvent from error


def _intent(made: Mapping[str, Any]) -> Intent:
    units, currency = int(made["amount_received"]), str(made["currency"])
    return Intent(str(made["id"]), str(made["status"]), units, currency, failure_of(made))


def _asked(call: Any, payment: Payment | None = None) -> dict[str, Any]:
    """What `call` gets of Stripe; one that makes something names the payment. Raises Unavailable, Declined."""
    addresses: Any = {"api": settings.STRIPE_API_URL} if settings.STRIPE_API_URL else {}
    client = stripe.StripeClient(
        settings.STRIPE_SECRET_KEY, base_addresses=addresses, http_client=stripe.RequestsClient(timeout=ANSWER_S)
    )
    try:
        made = call(client, {} if payment is None else {"idempotency_key": payment.public_id})
    except stripe.CardError as error:
        raise Declined(error.user_message or "The card was declined.") from error
    except stripe.InvalidRequestError as error:
        raise (Unknown if error.http_status == _NOT_FOUND else Unavailable)(type(error).__name__) from error
    except stripe.StripeError as error:
        raise Unavailable(type(error).__name__) from error
    return dict(made.to_dict())
