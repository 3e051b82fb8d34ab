"""How tests look at the staff admin: addresses of pages, their text, and what a browser would send back."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from allauth.account.internal.flows.login import record_authentication
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.db.models import Model
from django.forms import MultiWidget
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.test import Client
from django.urls import reverse

from billing.models import ApiKey, UsageRecord

XSS = "<img src=x onerror=alert(1)>"
CREDIT = 1_000_000


def url(row_or_model: Model | type[Model], page: str = "changelist") -> str:
    options = row_or_model._meta
    arguments = [] if isinstance(row_or_model, type) else [row_or_model.pk]
    return reverse(f"admin:{options.app_label}_{options.model_name}_{page}", args=arguments)


def text_of(response: HttpResponse) -> str:
    return re.sub(r"\s+", " ", response.content.decode())


def form_of(response: Any) -> dict[str, Any]:
    """The values of all forms on a page, as they stand in it."""
    context = response.context
    forms = [context["adminform"].form] if "adminform" in context else [context["form"]]
    for inline in context.get("inline_admin_formsets") or []:
        forms += [inline.formset.management_form, *inline.formset.forms]
    values: dict[str, Any] = {}
    for form in forms:
        for field in form:
            value: Any = field.field.prepare_value(field.value())
            if isinstance(field.field.widget, MultiWidget):
                names = [field.html_name, *([field.html_initial_name] if field.field.show_hidden_initial else [])]
                parts = [(number, str(part)) for number, part in enumerate(field.field.widget.decompress(value) or ()) if part]
                values |= {f"{name}_{number}": part for name in names for number, part in parts}
            elif value is not None and value is not False:
                values[field.html_name] = "on" if value is True else value
            if field.field.show_hidden_initial and not isinstance(field.field.widget, MultiWidget):
                values[field.html_initial_name] = "" if value is None else value
    return values


def chain_of(*slugs: str) -> dict[str, str]:
    """The rows of a new chain, as its form sends them."""
    rows = {f"links-{number}-target": slug for number, slug in enumerate(slugs)}
    return {"links-TOTAL_FORMS": str(len(slugs)), "links-INITIAL_FORMS": "0", **rows}


def make_record(key: ApiKey, **fields: Any) -> UsageRecord:
    values = {
        "generation": "chatcmpl-one",
        "request_id": "my-label",
        "model_asked": "gpt-4o",
        "model_used": "gpt-4o",
        "provider": "google",
        "charged_microcredits": 1_500_000,
        "lines": [
            {
                "kind": "input",
                "quantity": 1000,
                "unit": "million_tokens",
                "unit_price_microcredits": 250_000_000,
                "amount_microcredits": 250_000,
            },
            {"kind": "odd"},
        ],
        "status": 200,
        "end_state": "done",
    }
    return UsageRecord.objects.create(**values | {"workspace": key.workspace, "api_key": key} | fields)


class Undrawn:
    """Middleware for whoever asks what a page is answered by, and not for the page: drawing it takes most of the time."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_template_response(self, request: HttpRequest, response: TemplateResponse) -> TemplateResponse:
        response.content = b""
        return response


def sign_in(client: Client, user: User) -> None:
    """As this person, past the log-in, with his second factor; he gets one if he has none."""
    made, _ = Authenticator.objects.get_or_create(user=user, type=Authenticator.Type.TOTP, defaults={"data": {"secret": "-"}})
    client.force_login(user)
    request = HttpRequest()
    request.session, request.user = client.session, user
    record_authentication(request, user, "mfa", id=made.pk, type=made.type)
    request.session.save()
