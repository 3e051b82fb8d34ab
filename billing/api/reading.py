"""What the reads of `/v1` share: who may call them, values of the query, lists, and answers with exact amounts."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
from django.db import InterfaceError, OperationalError
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from billing.apikeys import Principal
from billing.errors import InvalidValue, LedgerUnavailable, RoleTooNarrow
from billing.models import Membership
from billing.moments import MomentError, Span, moment
from billing.permissions import Action, Grant, grant_of_role, roles_that_may
from billing.pricing import credits_text
from billing.reports.usage import recent
from infery_site.drf import ApiView

MOST_DAYS: Final = 366
MOST_ROWS: Final = 100
DEFAULT_ROWS: Final = 20

_encode = msgspec.json.Encoder(decimal_format="number").encode


class ReadView(ApiView):
    """A view for keys with the scope `usage:read`, which read no more than their owners may (`permitted`)."""

    required_scope = "usage:read"

    def handle_exception(self, exc: Exception) -> Any:
        """A database that cannot be asked is answered as everywhere else."""
        return super().handle_exception(LedgerUnavailable() if isinstance(exc, OperationalError | InterfaceError) else exc)


def permitted(principal: Principal, action: Action) -> Grant:
    """How far a key may read: as far as the role that its owner has now. A key of nobody reads all of its workspace.

    Raises RoleTooNarrow.
    """
    if principal.owner_role is None:
        return Grant.ALL
    grant = grant_of_role(action, principal.owner_role)
    if grant is Grant.NONE:
        raise RoleTooNarrow(
            Membership.Role(principal.owner_role).label, ", ".join(role.label for role in roles_that_may(action))
        )
    return grant


def owner_of(principal: Principal, action: Action) -> int | None:
    """The row id of the member whose rows alone a key may read; None for everybody's. Raises RoleTooNarrow."""
    return principal.owner_id if permitted(principal, action) is Grant.OWN else None


def answer(value: Any) -> HttpResponse:
    """The value as JSON; Decimals become numbers of exactly these digits."""
    return HttpResponse(_encode(value), content_type="application/json")


def credits_number(amount_microcredits: int) -> Decimal:
    return Decimal(credits_text(amount_microcredits))


def span_of(request: Request) -> Span:
    """What `start` and `end` ask for; without them what is recent. Raises InvalidValue."""
    start, end = _moment(request, "start"), _moment(request, "end")
    if end is None:
        end = timezone.now()
    if start is None:
        start = recent(end).start
    if start >= end:
        raise InvalidValue("start must be before end.", "start")
    if end - start > timedelta(days=MOST_DAYS):
        raise InvalidValue(f"From start to end there may be at most {MOST_DAYS} days.", "start")
    return Span(start, end)


def choice_of(request: Request, name: str, choices: tuple[str, ...]) -> str | None:
    """The value of a parameter, None where it is not given. Raises InvalidValue for anything but the choices."""
    value = request.query_params.get(name)
    if value is not None and value not in choices:
        raise InvalidValue(f"{name} must be one of {', '.join(choices)}.", name)
    return value


def limit_of(request: Request) -> int:
    """How many rows a list may have. Raises InvalidValue."""
    text = request.query_params.get("limit", str(DEFAULT_ROWS))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST_ROWS)) and 1 <= int(text) <= MOST_ROWS):
        raise InvalidValue(f"limit must be a whole number from 1 to {MOST_ROWS}.", "limit")
    return int(text)


def _moment(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return moment(text, is_end=name == "end")
    except MomentError as error:
        raise InvalidValue(f"{name}: {error}.", name) from None
