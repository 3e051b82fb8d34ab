"""What every view of the management API shares: caller and permission before anything else, bodies, pages, idempotency.

A view names the action of each of its methods (`billing.permissions`); a method without one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import IO, Any, ClassVar, TypeVar

import msgspec
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Model, QuerySet
from django.http import Http404, HttpResponse
from rest_framework import exceptions
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from billing import audit, idempotency
from billing.api.bodies import Body, fields_of
from billing.api.callers import Caller, ManagementAuthentication, caller_of
from billing.api.objects import LIMITS
from billing.api.reading import answer, limit_of
from billing.errors import InvalidValue, KeyTooBroad, LedgerUnavailable, UnknownParameter, WorkspaceSuspended
from billing.models import QuotaPreset, Workspace
from billing.permissions import Action
from billing.presets import list_presets
from infery_site.drf import ApiView
from infery_site.errors import ApiError, quoted
from infery_site.failpoints import reach
from infery_site.media import check_content_type

REPLAYED = ("idempotent-replayed", "true")

_SAFE = frozenset({"GET", "HEAD"})
_PARAMS = {field: name for name, field in LIMITS.items()}

Row = TypeVar("Row", bound=Model)


class StrictJsonParser(BaseParser):
    """JSON with its numbers as they are written: what is not a whole number becomes a Decimal."""

    media_type = "application/json"
    _decode = staticmethod(msgspec.json.Decoder(float_hook=Decimal).decode)

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        encoding = parser_context["request"].META.get("HTTP_CONTENT_ENCODING", "") if parser_context else ""
        check_content_type((media_type or "").encode(), encoding.encode())
        try:
            value: dict[str, Any] = self._decode(stream.read())
        except RecursionError as error:
            raise ApiError(400, "json_too_deep", "The request body is nested too deeply.") from error
        except (msgspec.DecodeError, ValueError, ArithmeticError) as error:
            raise exceptions.ParseError from error
        return value


class ManagementView(ApiView):
    """A view of one workspace, which the URL names. `caller` is set, and permitted the action, before a handler runs."""

    authentication_classes = [ManagementAuthentication]
    parser_classes = [StrictJsonParser]
    actions: ClassVar[Mapping[str, Action]]
    caller: Caller
    refused_field: str | None = None
    """The field that is not there, which the body of this request had all the same."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method == "OPTIONS":
            return
        action = self.actions.get("GET" if request.method == "HEAD" else request.method or "")
        if action is None:
            raise exceptions.MethodNotAllowed(request.method or "")
        self.caller = caller_of(request, kwargs["workspace_id"], action)
        if request.method not in _SAFE and self.caller.workspace.state == Workspace.State.SUSPENDED:
            raise WorkspaceSuspended

    def handle_exception(self, exc: Exception) -> Response:
        if self.refused_field is not None:
            # Not before: what was to be made is rolled back by now, and this is not.
            details = {"route": f"{self.request.method} {self.request.path}", "field": quoted(self.refused_field)}
            workspace = self.caller.workspace
            audit.record("request.refused", actor=self.caller.actor, workspace=workspace, details=details)
        if isinstance(exc, ValidationError):
            exc = _refused(exc)
        elif isinstance(exc, KeyTooBroad):
            exc = type(exc)(_PARAMS.get(exc.param or "", exc.param or ""))
        elif isinstance(exc, OperationalError | InterfaceError):
            exc = LedgerUnavailable()
        return super().handle_exception(exc)

    def fields(self, request: Request, body: type[Body], *, is_partial: bool = False) -> dict[str, Any]:
        """The values of the request's body. Who sends a field that is not there is remembered."""
        try:
            return fields_of(body, request.data, is_partial=is_partial)
        except UnknownParameter as refusal:
            self.refused_field = refusal.param
            raise

    def preset(self, public_id: str) -> QuotaPreset:
        """A preset that the workspace may use. Raises Http404."""
        return found(list_presets(self.caller.workspace), public_id)


class CreatingView(ManagementView):
    """A view whose POST creates: with an Idempotency-Key it does so once, and a repeat gets the first answer for 24 hours.

    The answer may hold the text of a key, so it is kept encrypted, and for this caller alone. It is kept in the transaction of
    what it tells of: a process that dies at any point leaves both or neither.
    """

    def create(self, request: Request, **kwargs: str) -> HttpResponse:
        raise NotImplementedError

    def post(self, request: Request, **kwargs: str) -> HttpResponse:
        key = request.headers.get("idempotency-key")
        if key is None:
            return self.create(request, **kwargs)
        return async_to_sync(self._create_once)(request, key, kwargs)

    async def _create_once(self, request: Request, key: str, kwargs: dict[str, str]) -> HttpResponse:
        route = f"POST {request.path} by {self.caller.id}"
        claim = await idempotency.claim(self.caller, route=route, key=key, body=request.body)
        if isinstance(claim, idempotency.Replay):
            return HttpResponse(claim.body, status=claim.status, headers=dict([REPLAYED]), content_type="application/json")
        try:
            response = await sync_to_async(self._create_and_keep)(request, claim, kwargs)
        except BaseException:
            await claim.release()
            raise
        claim.abandon()
        return response

    def _create_and_keep(self, request: Request, claim: idempotency.Claim, kwargs: dict[str, str]) -> HttpResponse:
        with transaction.atomic():
            response = self.create(request, **kwargs)
            reach("create.keeping")
            claim.store(response.status_code, response.content)
        reach("create.kept")
        return response


def found(rows: QuerySet[Row], public_id: str) -> Row:
    """The row of this public id. Raises Http404, by which unknown and foreign ones are answered alike."""
    row = rows.filter(public_id=public_id).first()
    if row is None:
        raise Http404
    return row


def page(request: Request, rows: QuerySet[Row], shown: Callable[[list[Row]], list[dict[str, Any]]]) -> HttpResponse:
    """The newest rows, or those that follow `after`, `limit` at a time, as OpenAI pages its lists. Raises InvalidValue."""
    limit = limit_of(request)
    after = request.query_params.get("after")
    if after is not None:
        mark = rows.filter(public_id=after).values_list("pk", flat=True).first() if after.isprintable() else None
        if mark is None:
            raise InvalidValue("after must be the id of an object in this list.", "after")
        rows = rows.filter(pk__lt=mark)
    chosen = list(rows.order_by("-pk")[: limit + 1])
    data = shown(chosen[:limit])
    return answer(
        {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": len(chosen) > limit,
        }
    )


def created(value: Any) -> HttpResponse:
    response = answer(value)
    response.status_code = 201
    return response


def _refused(error: ValidationError) -> InvalidValue:
    """What a service found wrong, under the name that the API gives to the field."""
    field = next(iter(error.error_dict), "") if hasattr(error, "error_dict") else ""
    return InvalidValue(error.messages[0], _PARAMS.get(field, field))
