"""The ledger, usage and the audit trail in the staff admin: all of it to read, none of it to write."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, FieldTextFilter, RangeDateTimeFilter
from unfold.decorators import action

from billing.admin import credits
from billing.admin.parts import ReadOnlyAdmin, credits_column, granted_by
from billing.models import Account, AuditEvent, Budget, CreditLot, Entry, Hold, RequestTrace, UsageRecord
from billing.pricing import credits_text


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    posted = credits_column("posted_microcredits", "Balance (credits)")
    held = credits_column("held_microcredits", "Held (credits)")

    list_display = ["__str__", "kind", "workspace", posted, held]
    list_select_related = ["workspace"]
    list_filter = [("kind", ChoicesDropdownFilter), ("workspace", AutocompleteSelectFilter)]
    search_fields = ["workspace__name", "=workspace__public_id"]
    ordering = ["pk"]
    fields = ["kind", "workspace", posted, held]
    readonly_fields = fields


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    amount = credits_column("amount_microcredits", "Held (credits)")
    settled = credits_column("settled_microcredits", "Settled (credits)")
    overrun = credits_column("overrun_microcredits", "Overrun (credits)")

    list_display = ["generation", "sequence", "workspace", "state", amount, settled, "created_at", "lease_expires_at"]
    list_select_related = ["account__workspace"]
    list_filter = [
        ("state", ChoicesDropdownFilter),
        ("api_key", AutocompleteSelectFilter),
        ("created_at", RangeDateTimeFilter),
    ]
    search_fields = ["=generation"]
    ordering = ["-pk"]
    fields = [
        *("generation", "sequence", "workspace", "api_key", "state", amount, settled, overrun, "usage_source"),
        *("price_version_id", "budget_ids", "created_at", "lease_expires_at", "closed_at"),
    ]
    readonly_fields = fields

    @admin.display(description="Workspace")
    def workspace(self, hold: Hold) -> str:
        return str(hold.account.workspace)


@admin.register(Entry)
class EntryAdmin(ReadOnlyAdmin):
    amount = credits_column("amount_microcredits", "Credits")

    list_display = ["created_at", "kind", "debit_account", "credit_account", amount, "generation", "actor", "reason"]
    list_select_related = ["debit_account__workspace", "credit_account__workspace"]
    list_filter = [("kind", ChoicesDropdownFilter), ("created_at", RangeDateTimeFilter), ("actor", FieldTextFilter)]
    search_fields = ["=generation", "=idempotency_key"]
    ordering = ["-pk"]
    fields = [
        *("created_at", "kind", "debit_account", "credit_account", amount, "generation", "hold"),
        *("idempotency_key", "actor", "reason", "expires_at"),
    ]
    readonly_fields = fields


@admin.register(CreditLot)
class CreditLotAdmin(ReadOnlyAdmin):
    """What is left is as of the last entry that was not a request's."""

    left = credits_column("left_microcredits", "Left (credits)")
    amount = credits_column("entry__amount_microcredits", "Of (credits)")

    list_display = ["pk", "workspace", "kind", left, amount, "expires_at"]
    list_select_related = ["entry", "account__workspace"]
    list_filter = [("account__workspace", AutocompleteSelectFilter), ("expires_at", RangeDateTimeFilter)]
    search_fields = ["=entry__idempotency_key"]
    ordering = ["-pk"]
    fields = ["entry", "workspace", "kind", left, amount, "expires_at"]
    readonly_fields = fields

    @admin.display(description="Workspace")
    def workspace(self, lot: CreditLot) -> str:
        return str(lot.account.workspace)

    @admin.display(description="Kind")
    def kind(self, lot: CreditLot) -> str:
        return lot.entry.get_kind_display()


@admin.register(Budget)
class BudgetAdmin(ReadOnlyAdmin):
    limit = credits_column("limit_microcredits", "Limit (credits)")
    spent = credits_column("spent_microcredits", "Spent (credits)")
    held = credits_column("held_microcredits", "Held (credits)")

    list_display = ["scope", "scope_id", "period", limit, spent, held, "period_started_at"]
    list_filter = [("scope", ChoicesDropdownFilter), ("period", ChoicesDropdownFilter)]
    search_fields = ["=scope_id"]
    ordering = ["-pk"]
    fields = list_display
    readonly_fields = fields


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnlyAdmin):
    """Search takes a generation id or a request id, whole."""

    charged = credits_column("charged_microcredits", "Charged (credits)")
    overrun = credits_column("overrun_microcredits", "Overrun (credits)")

    list_display = [
        *("created_at", "generation", "workspace", "model_asked", "model_used", "status", "end_state"),
        *("prompt_tokens", "completion_tokens", charged, "fallback_depth", "latency_ms"),
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
    search_fields = ["=generation", "=request_id"]
    search_help_text = "A generation id or a request id, whole."
    ordering = ["-pk"]
    fieldsets: list[tuple[str | None, dict[str, Any]]] = [
        (
            None,
            {
                "fields": [
                    *("generation", "request_id", "created_at", "workspace", "api_key"),
                    *("model_asked", "model_used", "provider", "fallback_depth"),
                    *("status", "error_code", "end_state", "finish_reason", "is_stream", "latency_ms", "first_token_ms"),
                ]
            },
        ),
        (
            "Receipt",
            {
                "fields": [
                    *(charged, overrun, "usage_source", "price_version_id", "receipt"),
                    *("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens"),
                    *("audio_tokens", "reasoning_tokens"),
                ]
            },
        ),
        ("Trace", {"fields": ["attempts", "adaptations", "timings"]}),
    ]
    readonly_fields = [name for _, options in fieldsets for name in options["fields"]]
    actions_detail = ["refund"]
    has_refund_permission = granted_by("billing.refund_credits")

    @action(description="Refund", icon="undo", permissions=["refund"])
    def refund(self, request: HttpRequest, object_id: str) -> HttpResponse:
        record = get_object_or_404(UsageRecord.objects.select_related("workspace"), pk=object_id)
        page = reverse("admin:billing_usagerecord_change", args=[record.pk])
        return credits.refund_page(self, request, record, done=HttpResponseRedirect(page))

    @admin.display(description="Lines")
    def receipt(self, record: UsageRecord) -> str:
        """The lines as the ledger wrote them; one it does not know how to read is shown as it is."""
        return _lines([_line(line) for line in record.lines])

    @admin.display(description="Attempts")
    def attempts(self, record: UsageRecord) -> str:
        trace = _trace(record)
        return _lines([_compact(attempt) for attempt in trace.attempts]) if trace else "-"

    @admin.display(description="Adaptations")
    def adaptations(self, record: UsageRecord) -> str:
        trace = _trace(record)
        return _lines([_compact(adaptation) for adaptation in trace.adaptations]) if trace else "-"

    @admin.display(description="Timings (ms)")
    def timings(self, record: UsageRecord) -> str:
        trace = _trace(record)
        return _compact(trace.timings_ms) if trace else "-"


def _trace(record: UsageRecord) -> RequestTrace | None:
    """Traces are kept 30 days, so an older record has none."""
    return RequestTrace.objects.filter(generation=record.generation).first()


def _line(line: Any) -> str:
    try:
        return (
            f"{line['kind']}: {line['quantity']} x {credits_text(line['unit_price_microcredits'])} a {line['unit']}"
            f" = {credits_text(line['amount_microcredits'])}"
        )
    except (KeyError, TypeError):
        return _compact(line)


def _lines(texts: list[str]) -> str:
    return format_html("<ul>{}</ul>", format_html_join("", "<li>{}</li>", ((text,) for text in texts))) if texts else "-"


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "actor", "action", "workspace", "target", "reason"]
    list_select_related = ["workspace"]
    list_filter = [
        ("workspace", AutocompleteSelectFilter),
        ("action", FieldTextFilter),
        ("actor", FieldTextFilter),
        ("created_at", RangeDateTimeFilter),
    ]
    search_fields = ["=target", "=actor", "action"]
    ordering = ["-pk"]
    fields = ["created_at", "actor", "action", "workspace", "target", "reason", "details"]
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        queryset: QuerySet[AuditEvent] = super().get_queryset(request)
        return queryset.select_related("workspace")
