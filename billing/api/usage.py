"""`GET /v1/usage` and `GET /v1/usage/requests`: the requests of a workspace, added up and one by one.

Amounts are credits, as exact JSON numbers. Times are UTC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request

from billing.api.authentication import principal_of
from billing.api.reading import ReadView, answer, choice_of, credits_number, limit_of, owner_of, span_of
from billing.apikeys import Principal
from billing.errors import InvalidValue
from billing.moments import Span, moment_text
from billing.permissions import Action
from billing.pricing import credits_text
from billing.reports import usage
from billing.reports.export import csv_text

MOST_GROUPS: Final = 1_000
"""Callers name as many users as they like: so many groups are shown, the dearest, and the total is still that of all."""

EXPORT_ROWS: Final = 1_000
"""How many rows of an export are read, and kept in memory, at once."""

_CSV_COLUMNS: Final = (
    *("timestamp", "model", "api_key_id", "prompt_tokens", "completion_tokens", "credits_used"),
    *("request_id", "latency_ms", "fallback_depth"),
)


class Usage(ReadView):
    def get(self, request: Request) -> HttpResponse:
        principal, span = principal_of(request), span_of(request)
        workspace_id, only = principal.workspace_id, _readable(principal)
        grouping = choice_of(request, "group_by", usage.GROUPINGS)
        groups = [] if grouping is None else usage.list_groups(workspace_id, span, grouping, limit=MOST_GROUPS + 1, only=only)
        has_more = len(groups) > MOST_GROUPS
        total = usage.get_totals(workspace_id, span, only) if grouping is None or has_more else usage.added_up(groups)
        return answer(
            {
                "object": "usage",
                "start": moment_text(span.start),
                "end": moment_text(span.end),
                "group_by": grouping,
                "data": [{**_labels(group), **_totals(group.totals)} for group in groups[:MOST_GROUPS]],
                "has_more": has_more,
                "total": _totals(total),
            }
        )


def _readable(principal: Principal) -> usage.Only:
    """The requests that a key may read: those of its owner's keys, where his role reads no others."""
    return usage.Only(owner_id=owner_of(principal, Action.READ_USAGE))


def _labels(group: usage.Group) -> dict[str, Any]:
    """Null stands for what a request does not have: a model that served it, a member whose key it used, a user it named."""
    return {name: value.isoformat() if name == "day" else value or None for name, value in group.labels.items()}


def _totals(totals: usage.Totals) -> dict[str, Any]:
    return {
        "requests": totals.requests,
        "failed_requests": totals.failed_requests,
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.completion_tokens,
        "cached_tokens": totals.cached_tokens,
        "cache_write_tokens": totals.cache_write_tokens,
        "audio_tokens": totals.audio_tokens,
        "reasoning_tokens": totals.reasoning_tokens,
        "credits_used": credits_number(totals.charged_microcredits),
    }


class CsvRenderer(BaseRenderer):
    """Lets a client ask for CSV by its Accept header; the view writes it."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"


class Requests(ReadView):
    """One by one, the newest first: pages of JSON, or all of the span as CSV."""

    renderer_classes = (JSONRenderer, CsvRenderer)

    def get(self, request: Request) -> HttpResponseBase:
        principal, span = principal_of(request), span_of(request)
        accepted = request.accepted_renderer.format
        if (choice_of(request, "format", ("json", "csv")) or accepted) == "csv":
            return self._export(request, principal, span)
        after = request.query_params.get("after")
        try:
            page = usage.list_requests(
                principal.workspace_id, span, limit=limit_of(request), after=after, only=_readable(principal)
            )
        except usage.UnknownMark:
            raise InvalidValue("after must be the id of a request of this list.", "after") from None
        ids = [row.generation for row in page.rows]
        return answer(
            {
                "object": "list",
                "data": [_request_object(row) for row in page.rows],
                "first_id": ids[0] if ids else None,
                "last_id": ids[-1] if ids else None,
                "has_more": page.has_more,
            }
        )

    def _export(self, request: Request, principal: Principal, span: Span) -> HttpResponseBase:
        for name in ("after", "limit"):
            if name in request.query_params:
                raise InvalidValue(f"{name} is for JSON; CSV has every request from start to end.", name)
        # Read before the answer begins, so that what fails at once is answered as an error.
        read = partial(usage.list_requests, principal.workspace_id, span, limit=EXPORT_ROWS, only=_readable(principal))
        response = StreamingHttpResponse(_csv_parts(read, read()), content_type="text/csv; charset=utf-8")
        name = f"requests_{span.start:%Y%m%dT%H%M%SZ}_{span.end:%Y%m%dT%H%M%SZ}.csv"
        response["content-disposition"] = f'attachment; filename="{name}"'
        return response


async def _csv_parts(read: Callable[..., usage.Page], page: usage.Page) -> AsyncIterator[str]:
    """`page` and all that follow it, which `read` gives `after` a generation."""
    yield csv_text([_CSV_COLUMNS])
    while page.rows:
        yield csv_text([_csv_row(row) for row in page.rows])
        if not page.has_more:
            return
        page = await sync_to_async(read)(after=page.rows[-1].generation)


def _csv_row(row: usage.RequestRow) -> tuple[str | int, ...]:
    """As `_CSV_COLUMNS` has it."""
    return (
        moment_text(row.created_at),
        row.model_used or row.model_asked,
        row.api_key_id,
        row.prompt_tokens,
        row.completion_tokens,
        credits_text(row.charged_microcredits),
        row.request_id,
        row.latency_ms,
        row.fallback_depth,
    )


def _request_object(row: usage.RequestRow) -> dict[str, Any]:
    return {
        "object": "usage.request",
        "id": row.generation,
        "timestamp": moment_text(row.created_at),
        "model": row.model_used or None,
        "model_asked": row.model_asked or None,
        "api_key_id": row.api_key_id,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "credits_used": credits_number(row.charged_microcredits),
        "request_id": row.request_id,
        "latency_ms": row.latency_ms,
        "fallback_depth": row.fallback_depth,
        "is_stream": row.is_stream,
        "status": row.status,
        "end_state": row.end_state,
        "error_code": row.error_code or None,
        "user": row.end_user or None,
    }
