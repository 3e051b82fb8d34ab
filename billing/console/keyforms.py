"""The form of a key: what people write in it, and what that means for the services."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone

from billing.errors import KeyTooBroad
from billing.models import ApiKey
from billing.models.keys import default_scopes
from billing.pricing import AmountError, credits_text, microcredits
from billing.quotas import EVERY_MODEL
from infery_site.errors import ApiError

KEPT = "keep"
EXPIRIES = {"": "Never", "30": "In 30 days", "90": "In 90 days", "365": "In a year"}
_NUMBERS = {
    "requests": "max_requests_per_minute",
    "day_requests": "max_requests_daily",
    "tokens": "max_tokens_daily",
    "at_once": "max_concurrent_requests",
}
_LISTS = {"models": "allowed_models", "addresses": "allowed_addresses"}
_NAMES = {
    **{column: name for name, column in {**_NUMBERS, **_LISTS}.items()},
    "max_budget_monthly_microcredits": "budget",
    "expires_at": "expires",
}
# All of the form but its scopes, of which there are many.
FIELDS = ("name", "budget", "expires", *_NUMBERS, *_LISTS)
_MOST_DIGITS = 15


class KeyForm:
    """Values as texts, and the error of the field that was refused. Its methods raise ValidationError."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self.values: dict[str, Any] = {"scopes": default_scopes()} if values is None else dict(values)
        self.errors: dict[str, str] = {}
        self.expiries = EXPIRIES
        self.shown: dict[str, Any] = {}

    @classmethod
    def of(cls, key: ApiKey, values: Mapping[str, Any] | None = None) -> KeyForm:
        """Of a key that is there: with what is so now, or with these values."""
        shown = values_of(key)
        form = cls(shown if values is None else values)
        form.shown, form.expiries = shown, {KEPT: "As it is", **EXPIRIES}
        return form

    @property
    def name(self) -> str:
        return str(self.values.get("name", ""))

    def terms(self) -> dict[str, Any]:
        """Of a new key."""
        expires = self.values.get("expires", "")
        models = _list(self.values.get("models", ""))
        return {
            **self._limits(),
            "scopes": self.values["scopes"],
            "expires_at": _end(expires),
            "allowed_models": models or None,
        }

    def changes(self, key: ApiKey) -> dict[str, Any]:
        """Of a key that is there; what was not changed is left out."""
        models = _list(self.values.get("models", "")) or [EVERY_MODEL]
        values = {**self.terms(), "name": self.name, "allowed_models": models}
        if self.values.get("expires") == KEPT:
            del values["expires_at"]
        return {column: value for column, value in values.items() if value != getattr(key, column)}

    def refuse(self, refusal: ValidationError | ApiError) -> None:
        """Keep what a service said, with the field it is about."""
        if isinstance(refusal, KeyTooBroad):
            self.errors[_NAMES.get(refusal.param or "", refusal.param or "")] = refusal.message
        elif isinstance(refusal, ApiError):
            self.errors["key"] = refusal.message
        else:
            field = next(iter(refusal.error_dict), "") if hasattr(refusal, "error_dict") else ""
            self.errors[_NAMES.get(field, field)] = refusal.messages[0]

    def _limits(self) -> dict[str, Any]:
        budget = self.values.get("budget", "")
        try:
            amount = microcredits(budget.replace(",", "")) if budget else None
        except AmountError as error:
            raise ValidationError({"budget": f"Write credits as a number, such as 250: it is {error}."}) from error
        numbers = {column: _number(name, self.values.get(name, "")) for name, column in _NUMBERS.items()}
        addresses = _list(self.values.get("addresses", ""))
        return {**numbers, "max_budget_monthly_microcredits": amount, "allowed_addresses": addresses}


def values_of(key: ApiKey) -> dict[str, Any]:
    """What the form of a key shows."""
    budget = key.max_budget_monthly_microcredits
    return {
        "name": key.name,
        "budget": "" if budget is None else credits_text(budget),
        "expires": KEPT,
        "models": "" if EVERY_MODEL in key.allowed_models else ", ".join(key.allowed_models),
        "addresses": ", ".join(key.allowed_addresses),
        "scopes": key.scopes,
        **{name: str(getattr(key, column) or "") for name, column in _NUMBERS.items()},
    }


def _number(name: str, text: str) -> int | None:
    digits = text.replace(",", "")
    if not digits:
        return None
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS):
        raise ValidationError({name: "Write a whole number, or nothing for no limit."})
    return int(digits)


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.replace("\n", ",").split(",") if item.strip()]


def _end(choice: str) -> Any:
    if choice in {"", KEPT}:
        return None
    if choice not in EXPIRIES:
        raise ValidationError({"expires": "Choose one of the times."})
    return timezone.now() + timedelta(days=int(choice))
