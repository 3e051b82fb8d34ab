"""Requests and the audit trail in the staff admin, to read. The page of a request is its receipt, and how it came about."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import AutocompleteSelectFilter, FieldTextFilter, RangeDateTimeFilter
from unfold.decorators import action

from billing import crediting
from billing.admin import credits
from billing.admin.columns import (
    badge,
    code,
    credits_column,
    figure_column,
    id_column,
    moment_shown,
    text_column,
    time_column,
    value_of,
)
from billing.admin.lists import BookAdmin
from billing.admin.parts import granted_by
from billing.models import AuditEvent, Entry, Hold, RequestTrace, UsageRecord
from billing.pricing import credits_text

_PER = {"million_tokens": "tokens, per million", "page": "pages, each", "image": "images, each", "second": "seconds, each"}


def _status(record: UsageRecord) -> str:
    """The status, and how the request ended where the status does not say it."""
    look = (
        ("bad", "close") if record.status >= 400 else ("plain", "check") if record.end_state == "done" else ("warn", "warning")
    )
    word = (
        str(record.status) if record.end_state in {"done", "error"} else f"{record.status} {record.end_state.replace('_', ' ')}"
    )
    return badge(str(record.status), word, look)


_status.short_description = "Status"  # type: ignore[attr-defined]
_status.csv = lambda record: f"{record.status} {record.end_state}"  # type: ignore[attr-defined]


def _model(record: UsageRecord) -> str:
    """The model asked, and beside it the one that served, if it is another."""
    if not record.model_used or record.model_used == record.model_asked:
        return code(record.model_asked)
    return format_html("{} &rarr; {}", code(record.model_asked), code(record.model_used))


_model.short_description = "Model"  # type: ignore[attr-defined]
_model.csv = lambda record: record.model_used or record.model_asked  # type: ignore[attr-defined]


def _first_token(record: UsageRecord) -> str:
    return "-" if record.first_token_ms is None else f"{record.first_token_ms:,} ms"


@admin.register(UsageRecord)
class UsageRecordAdmin(BookAdmin):
    """Search takes a generation id or a request id, whole."""

    change_form_template = "admin/billing/request.html"
    list_display = [
        time_column("created_at", "Time"),
        id_column("generation", "Generation"),
        text_column("workspace__name", "Workspace"),
        _model,
        _status,
        figure_column("prompt_tokens", "In (tokens)"),
        figure_column("completion_tokens", "Out (tokens)"),
        credits_column("charged_microcredits", "Credits"),
        figure_column("latency_ms", "Latency (ms)"),
    ]
    list_select_related = ["workspace"]
    list_filter = [
        ("workspace", AutocompleteSelectFilter),
        ("api_key", AutocompleteSelectFilter),
        ("created_at", RangeDateTimeFilter),
        ("model_used", FieldTextFilter),
        ("error_code", FieldTextFilter),
        "is_stream",
    ]
    exact_fields = ("generation", "request_id")
    search_help_text = "A generation or request id, whole"
    fields = ["generation"]
    readonly_fields = fields
    actions_detail = ["refund"]
    has_refund_permission = granted_by("billing.refund_credits")

    def get_queryset(self, request: HttpRequest) -> QuerySet[UsageRecord]:
        queryset: QuerySet[UsageRecord] = super().get_queryset(request)
        return queryset.select_related("workspace", "api_key")

    @action(description="Refund", icon="undo", permissions=["refund"])
    def refund(self, request: HttpRequest, object_id: str) -> HttpResponse:
        record = get_object_or_404(UsageRecord.objects.select_related("workspace"), pk=object_id)
        page = reverse("admin:billing_usagerecord_change", args=[record.pk])
        return credits.refund_page(self, request, record, done=HttpResponseRedirect(page))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        record = self.get_object(request, object_id)
        told = {} if record is None else request_told(record)
        page: HttpResponse = super().change_view(request, object_id, form_url, (extra_context or {}) | told)
        return page


def request_told(record: UsageRecord) -> dict[str, Any]:
    """What the page of a request shows. Traces are kept 30 days, so an older record has none."""
    trace = RequestTrace.objects.filter(generation=record.generation).first()
    holds = Hold.objects.filter(generation=record.generation).order_by("sequence")
    return {
        "record": record,
        "status_badge": _status(record),
        "facts": _facts(record),
        "tokens": [(label, f"{getattr(record, name):,}") for label, name in _TOKENS if getattr(record, name)],
        "lines": [_line(line) for line in record.lines],
        "charged": six_decimals(record.charged_microcredits),
        "overrun": credits_text(record.overrun_microcredits) if record.overrun_microcredits else "",
        "refunded": six_decimals(record.charged_microcredits - crediting.refundable(record)),
        "holds": [(hold, six_decimals(hold.amount_microcredits), six_decimals(hold.settled_microcredits)) for hold in holds],
        "entry": Entry.objects.filter(generation=record.generation, kind=Entry.Kind.USAGE).first(),
        "has_trace": trace is not None,
        "attempts": _waterfall(trace.attempts if trace else [], record.latency_ms),
        "adaptations": [_compact(adaptation) for adaptation in trace.adaptations] if trace else [],
        "timings": [(name, _compact(value)) for name, value in trace.timings_ms.items()] if trace else [],
    }


_TOKENS = (
    ("Input", "prompt_tokens"),
    ("of it from cache", "cached_tokens"),
    ("of it written to cache", "cache_write_tokens"),
    ("of it audio", "audio_tokens"),
    ("Output", "completion_tokens"),
    ("of it reasoning", "reasoning_tokens"),
)


def _facts(record: UsageRecord) -> list[tuple[str, Any]]:
    pages = {
        "workspace": reverse("admin:billing_workspace_change", args=[record.workspace_id]),
        "api_key": reverse("admin:billing_apikey_change", args=[record.api_key_id]),
    }
    told: list[tuple[str, Any, str]] = [
        ("Time (UTC)", moment_shown(record.created_at), ""),
        ("Request id", record.request_id, ""),
        ("Workspace", record.workspace.name, pages["workspace"]),
        ("API key", str(record.api_key), pages["api_key"]),
        ("Model asked", record.model_asked, ""),
        ("Model used", record.model_used, ""),
        ("Provider", record.provider, ""),
        ("Fallback depth", record.fallback_depth or "", ""),
        ("End", record.end_state.replace("_", " "), ""),
        ("Finish reason", record.finish_reason, ""),
        ("Error", record.error_code, ""),
        ("Mode", "stream" if record.is_stream else "whole reply", ""),
        ("First token", _first_token(record), ""),
        ("Latency", f"{record.latency_ms:,} ms", ""),
        ("Usage from", record.usage_source, ""),
        ("Price version", record.price_version_id or "", ""),
        ("Customer's own user", record.end_user, ""),
    ]
    return [(label, value, link) for label, value, link in told if value not in ("", "-")]  # type: ignore[misc]


def six_decimals(amount_microcredits: int) -> str:
    """Of a receipt: all decimals, so that points stand under each other."""
    sign, whole, rest = "-" if amount_microcredits < 0 else "", *divmod(abs(amount_microcredits), 1_000_000)
    return f"{sign}{whole:,}.{rest:06}"


def _line(line: Any) -> dict[str, str]:
    """A line as the ledger wrote it; one that this page does not know how to read is shown as it is."""
    try:
        unit = _PER.get(line["unit"], line["unit"])
        return {
            "name": str(line["kind"]).replace("_", " ").capitalize(),
            "how": f"{line['quantity']:,} {unit.partition(',')[0]} at {credits_text(line['unit_price_microcredits'])}"
            f"{unit.partition(',')[2]}",
            "amount": six_decimals(line["amount_microcredits"]),
        }
    except (KeyError, TypeError, ValueError):
        return {"name": _compact(line), "how": "", "amount": ""}


def _waterfall(attempts: list[Any], latency_ms: int) -> list[dict[str, Any]]:
    """One row for each try, with where its bar begins and how wide it is, in per cent of the request's time."""
    rows = []
    for number, attempt in enumerate(attempts, start=1):
        told = attempt if isinstance(attempt, dict) else {"result": _compact(attempt)}
        started, took = _whole(told.get("started_ms")), _whole(told.get("duration_ms"))
        whole = max(latency_ms, started + took, 1)
        is_good = told.get("result") == "served"
        rows.append(
            {
                "number": number,
                "provider": told.get("provider", ""),
                "model": told.get("upstream_model") or told.get("model", ""),
                "badge": badge("", str(told.get("result", "")), ("plain", "check") if is_good else ("bad", "close")),
                "status": told.get("upstream_status", ""),
                "is_good": is_good,
                "left": round(100 * started / whole, 2),
                "width": max(0.5, round(100 * took / whole, 2)),
                "took": f"{took:,} ms",
            }
        )
    return rows


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@admin.register(AuditEvent)
class AuditEventAdmin(BookAdmin):
    list_display = [
        time_column("created_at", "Time"),
        text_column("actor", "Actor"),
        id_column("action", "Action"),
        text_column("workspace__name", "Workspace"),
        id_column("target", "Target"),
        text_column("reason", "Reason"),
    ]
    list_select_related = ["workspace"]
    list_filter = [
        ("workspace", AutocompleteSelectFilter),
        ("action", FieldTextFilter),
        ("actor", FieldTextFilter),
        ("created_at", RangeDateTimeFilter),
    ]
    exact_fields = ("target", "actor", "action")
    search_help_text = "A target, actor or action, whole"
    fields = ["created_at", "actor", "action", "workspace", "target", "reason", "what"]
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        queryset: QuerySet[AuditEvent] = super().get_queryset(request)
        return queryset.select_related("workspace")

    @admin.display(description="Details")
    def what(self, event: AuditEvent) -> str:
        return json.dumps(value_of(event, "details"), ensure_ascii=False, indent=1)
