"""Stripe, as much of it as the gateway asks for: checkouts with a page on which one pays, charges of cards, signed events.

What is asked twice under one idempotency key is answered by the same words, as Stripe does.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.fakes.served import Quiet, Served

SECRET_KEY = "sk_test_fake"
WEBHOOK_SECRET = "whsec_fake"


def signed(body: bytes, *, at: float | None = None, secret: str = WEBHOOK_SECRET) -> str:
    """The value of `Stripe-Signature`."""
    stamp = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


class FakeStripe(Served):
    """`decline` makes charges fail, `is_away` everything; `loses_answers` does what it is asked and does not say so.

    `charges` are the intents that were made, with `charged` for their status; events go to `events_url`. `intents` are all that Stripe knows of, by id, also those of other products.
    """

    def __init__(self) -> None:
        self.events_url = ""
        self.decline = ""
        self.is_away = False
        self.loses_answers = False
        self.charged = "succeeded"
        self.sessions: dict[str, dict[str, Any]] = {}
        self.charges: list[dict[str, Any]] = []
        self.intents: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self._answers: dict[str, tuple[int, dict[str, Any]]] = {}
        fake = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.answer(self, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
                fake.answer(self, {name: values[0] for name, values in parse_qs(body).items()})

        super().__init__(Handler)

    def answer(self, handler: BaseHTTPRequestHandler, form: dict[str, str]) -> None:
        path = urlsplit(handler.path).path
        if path.startswith("/pay/"):
            self._show(handler, self.sessions[path.removeprefix("/pay/")])
            return
        self.calls.append((f"{handler.command} {path}", handler.headers.get("authorization", "")))
        key = handler.headers.get("idempotency-key", "") if handler.command == "POST" else ""
        if self.is_away:
            status, body = 503, {"error": {"type": "api_error", "message": "away"}}
        elif key in self._answers:
            status, body = self._answers[key]
        else:
            status, body = self._listed(handler) if handler.command == "GET" and path.endswith("s") else self._made(path, form)
            if key:
                self._answers[key] = status, body
        if self.loses_answers:
            status, body = 503, {"error": {"type": "api_error", "message": "lost"}}
        _send(handler, status, json.dumps(body).encode(), "application/json")

    def _made(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if path == "/v1/payment_intents":
            return self._charged(form)
        if path == "/v1/checkout/sessions":
            number = f"cs_test_{len(self.sessions) + 1}"
            session = {
                "id": number,
                "object": "checkout.session",
                "url": f"{self.url}/pay/{number}",
                "status": "open",
                "payment_status": "unpaid",
                "amount_total": int(form["line_items[0][price_data][unit_amount]"]),
                "currency": form["line_items[0][price_data][currency]"],
                "metadata": {"payment": form["metadata[payment]"]},
                "payment_intent": None,
                "success_url": form["success_url"],
                "setup_future_usage": form.get("payment_intent_data[setup_future_usage]"),
            }
            self.sessions[number] = session
            return 200, session
        kind, number = path.removeprefix("/v1/").rsplit("/", 1)
        known = self.intents if kind == "payment_intents" else self.sessions
        if number not in known:
            return 404, {"error": {"type": "invalid_request_error", "code": "resource_missing", "message": number}}
        return 200, known[number]

    def _listed(self, handler: BaseHTTPRequestHandler) -> tuple[int, dict[str, Any]]:
        """Those of a customer since some second, the newest first."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}
        since_s, most = int(asked["created[gte]"]), int(asked["limit"])
        found = [one for one in self.charges if one["customer"] == asked["customer"] and one["created"] >= since_s]
        return 200, {"object": "list", "data": found[::-1][:most], "has_more": len(found) > most}

    def _charged(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if self.decline:
            error = {"type": "card_error", "code": "card_declined", "message": self.decline}
            return 402, {"error": error}
        intent = {
            "id": f"pi_auto_{len(self.charges) + 1}",
            "object": "payment_intent",
            "created": int(time.time()),
            "status": self.charged,
            "amount_received": int(form["amount"]) if self.charged == "succeeded" else 0,
            "currency": form["currency"],
            "customer": form["customer"],
            "payment_method": form["payment_method"],
            "metadata": {"payment": form["metadata[payment]"]},
        }
        self.charges.append(intent)
        self.intents[str(intent["id"])] = intent
        return 200, intent

    def paid(self, session: dict[str, Any], *, card: str = "pm_1") -> list[dict[str, Any]]:
        """The events of a checkout that somebody paid with this card, each of which Stripe sends at least once."""
        intent_id = f"pi_{session['id']}"
        session |= {"status": "complete", "payment_status": "paid", "payment_intent": intent_id}
        intent = {
            "id": intent_id,
            "object": "payment_intent",
            "amount_received": session["amount_total"],
            "currency": session["currency"],
            "customer": "cus_1",
            "payment_method": card,
            "metadata": session["metadata"],
        }
        self.intents[intent_id] = intent
        return [event("payment_intent.succeeded", intent), event("checkout.session.completed", session)]

    def _show(self, handler: BaseHTTPRequestHandler, session: dict[str, Any]) -> None:
        """Stripe's page: with GET a button, which pays."""
        if handler.command == "GET":
            button = (
                b"<!doctype html><title>Pay</title><link rel=icon href=data:,><form method=post><button>Pay now</button></form>"
            )
            _send(handler, 200, button, "text/html")
            return
        for told in self.paid(session):
            body = json.dumps(told).encode()
            headers = {"stripe-signature": signed(body), "content-type": "application/json"}
            httpx.post(self.events_url, content=body, headers=headers, trust_env=False).raise_for_status()
        handler.send_response(303)
        handler.send_header("location", session["success_url"])
        handler.send_header("content-length", "0")
        handler.end_headers()


def event(kind: str, told: dict[str, Any], *, created: int | None = None) -> dict[str, Any]:
    """One that Stripe tells now, or made at `created`, in seconds of the epoch."""
    created = int(time.time()) if created is None else created
    return {"id": f"evt_{kind}", "object": "event", "type": kind, "created": created, "data": {"object": told}}


def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str) -> None:
    handler.send_response(status)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextlib.contextmanager
def switched_on(settings: Any) -> Iterator[FakeStripe]:
    """A Stripe that the gateway of these settings is paid by."""
    with FakeStripe() as fake:
        settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET = SECRET_KEY, WEBHOOK_SECRET
        settings.STRIPE_API_URL = fake.url
        yield fake
