"""What the management API is sent: the fields of each body, their types and ranges.

A body is taken as it stands: no text is read as a number, and a field that is not listed here is refused, so that nobody
sets by accident, or by trying, what is not his to set. The first fault is answered, with the path of its field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from rest_framework import serializers

from billing.api.objects import BUDGET_LIMIT, KEY_LIMITS, LIMITS
from billing.apikeys import SCOPES, Overlap
from billing.errors import UnknownParameter
from billing.models import Budget, Membership
from billing.moments import MomentError, moment
from billing.pricing import AmountError, microcredits
from infery_site.errors import ApiError

MOST_COUNTED: Final = 2**31 - 1
MOST_SUMMED: Final = 2**63 - 1
_COUNTS = frozenset({"max_requests_per_minute", "max_requests_daily", "max_concurrent_requests", "max_files_per_workspace"})

_UNKNOWN = "unknown_field"
_CODES = {
    "required": "missing_required_parameter",
    "invalid": "invalid_type",
    "null": "invalid_type",
    "not_a_list": "invalid_type",
    "min_value": "out_of_range",
    "max_value": "out_of_range",
    "zero": "invalid_unicode",
}
"""The code of a fault as REST Framework names it; any other is an `invalid_value`."""


_MESSAGES = {"required": "is required.", "null": "must not be null."}


class Text(serializers.CharField):
    default_error_messages = {
        **_MESSAGES,
        "invalid": "must be a string.",
        "blank": "must not be empty.",
        "max_length": "must have at most {max_length} characters.",
        "zero": "must not have the character zero.",
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if "\0" in data:
            self.fail("zero")
        return super().to_internal_value(data)


class Integer(serializers.IntegerField):
    default_error_messages = {
        **_MESSAGES,
        "invalid": "must be a whole number.",
        "min_value": "must be at least {min_value}.",
        "max_value": "must be at most {max_value}.",
    }

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return data


class List(serializers.ListField):
    default_error_messages = {
        **_MESSAGES,
        "not_a_list": "must be a list.",
        "max_length": "must have at most {max_length} items.",
    }


class Choice(serializers.ChoiceField):
    def __init__(self, choices: Iterable[str], **options: Any) -> None:
        names = [str(choice) for choice in choices]
        messages: dict[str, Any] = {**_MESSAGES, "invalid_choice": f"must be one of {', '.join(names)}."}
        super().__init__(choices=names, error_messages=messages, **options)


class Credits(serializers.Field[int, Any, Any, Any]):
    """Credits as a number, microcredits as the value."""

    default_error_messages = {
        **_MESSAGES,
        "invalid": "must be a number of credits.",
        "amount": "must be 0 credits or more, with at most six decimals.",
    }

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int | Decimal) or isinstance(data, bool):
            self.fail("invalid")
        try:
            amount_microcredits = microcredits(data)
        except AmountError:
            self.fail("amount")
        if amount_microcredits < 0:
            self.fail("amount")
        return amount_microcredits


class Moment(serializers.Field[datetime, Any, Any, Any]):
    default_error_messages = {
        **_MESSAGES,
        "invalid": "must be a string.",
        "moment": "must be a date such as 2026-11-25, or a time such as 2026-11-25T10:00:00Z.",
    }

    def to_internal_value(self, data: Any) -> datetime:
        if not isinstance(data, str):
            self.fail("invalid")
        try:
            return moment(data)
        except MomentError:
            self.fail("moment")


class Body(serializers.Serializer[Any]):
    """A JSON object with these fields and no other."""

    default_error_messages = {"invalid": "must be an object.", _UNKNOWN: "is not known."}

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, Mapping) else []
        if unknown:
            message = self.error_messages[_UNKNOWN]
            raise serializers.ValidationError({name: [message] for name in unknown}, code=_UNKNOWN)
        return super().to_internal_value(data)


class KeyBody(Body):
    name = Text(max_length=120)
    scopes = List(child=Choice(sorted(SCOPES)), required=False, max_length=len(SCOPES))
    allowed_addresses = List(child=Text(max_length=64), required=False)
    expires_at = Moment(required=False, allow_null=True)
    preset = Text(required=False, allow_null=True)

    def get_fields(self) -> dict[str, Any]:
        return {**super().get_fields(), **{name: _limit_field(field) for name, field in KEY_LIMITS.items()}}


def _limit_field(field: str) -> Any:
    options: dict[str, Any] = {"source": field, "required": False}
    if field == "allowed_models":
        return List(child=Text(max_length=256), **options)
    if field == BUDGET_LIMIT:
        return Credits(allow_null=True, **options)
    # No file at all may be allowed, no request at all makes no sense.
    least = 1 if field in KEY_LIMITS.values() else 0
    most = MOST_COUNTED if field in _COUNTS else MOST_SUMMED
    return Integer(allow_null=True, min_value=least, max_value=most, **options)


class PresetBody(Body):
    name = Text(max_length=120)

    def get_fields(self) -> dict[str, Any]:
        return {**super().get_fields(), **{name: _limit_field(field) for name, field in LIMITS.items()}}


class WorkspaceBody(Body):
    name = Text(max_length=120)


class RollBody(Body):
    overlap = Choice(Overlap)


class BudgetBody(Body):
    scope = Choice(Budget.Scope.values)
    scope_id = Text(required=False, max_length=64)
    period = Choice(Budget.Period.values, default=Budget.Period.MONTH.value)
    limit = Credits(allow_null=True)


class NewMemberBody(Body):
    email = Text(max_length=254)
    role = Choice(Membership.Role.values)


class MemberBody(Body):
    role = Choice(Membership.Role.values, required=False)
    preset = Text(required=False, allow_null=True)


def fields_of(body: type[Body], data: Any, *, is_partial: bool = False) -> dict[str, Any]:
    """The values of a body, under the names of the rows' fields. Raises ApiError for its first fault.

    With `is_partial` nothing is required, and what was not sent is not among the values.
    """
    read = body(data=data, partial=is_partial)
    if not read.is_valid():
        raise _fault(read.errors)
    values: dict[str, Any] = read.validated_data
    return values


def _fault(errors: Any) -> ApiError:
    path, fault = "", errors
    while isinstance(fault, Mapping):
        name, fault = next(iter(fault.items()))
        path += f"[{name}]" if isinstance(name, int) else f".{name}" if path else str(name)
    [detail, *_] = fault
    if detail.code == _UNKNOWN:
        return UnknownParameter(path)
    param = None if path == "non_field_errors" else path
    message = f"{param or 'The request body'} {detail}"
    return ApiError(400, _CODES.get(detail.code, "invalid_value"), message, param=param)
