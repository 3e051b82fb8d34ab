"""The ledger in the staff admin, all of it to read and none of it to write; and the proof of the books."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, FieldTextFilter, RangeDateTimeFilter
from unfold.widgets import UnfoldAdminDateWidget

from billing.admin.columns import (
    credits_column,
    credits_field,
    figure_column,
    id_column,
    state_column,
    text_column,
    time_column,
)
from billing.admin.lists import BookAdmin
from billing.admin.parts import ReadOnlyAdmin, WorkspaceField, actor_of
from billing.ledger.reconcile import prove, unproven
from billing.models import Account, Budget, CreditLot, CreditOrder, Entry, Hold, UsageRecord


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    posted = credits_field("posted_microcredits", "Balance")
    held = credits_field("held_microcredits", "Held")

    list_display = [
        text_column("workspace__name", "Workspace"),
        text_column("kind", "Kind"),
        credits_column("posted_microcredits", "Balance (credits)"),
        credits_column("held_microcredits", "Held (credits)"),
    ]
    list_select_related = ["workspace"]
    list_filter = [("kind", ChoicesDropdownFilter), ("workspace", AutocompleteSelectFilter)]
    list_filter_submit = True
    search_fields = ["workspace__name", "workspace__public_id__exact"]
    ordering = ["pk"]
    fields = ["kind", "workspace", posted, held]
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        queryset: QuerySet[Account] = super().get_queryset(request)
        return queryset.select_related("workspace")


def _generations(term: str) -> QuerySet[UsageRecord, Any]:
    """The generations of a request's label."""
    return UsageRecord.objects.filter(request_id=term).values("generation")


@admin.register(Hold)
class HoldAdmin(BookAdmin):
    """Search takes the id of a generation or of a request, whole."""

    amount = credits_field("amount_microcredits", "Held")
    settled = credits_field("settled_microcredits", "Settled")
    overrun = credits_field("overrun_microcredits", "Overrun")

    list_display = [
        time_column("created_at", "Created"),
        id_column("generation", "Generation"),
        figure_column("sequence", "No."),
        text_column("account__workspace__name", "Workspace"),
        state_column("state", "State"),
        credits_column("amount_microcredits", "Held (credits)"),
        credits_column("settled_microcredits", "Settled (credits)"),
        time_column("lease_expires_at", "Lease until"),
    ]
    list_select_related = ["account__workspace"]
    list_filter = [
        ("state", ChoicesDropdownFilter),
        ("account__workspace", AutocompleteSelectFilter),
        ("created_at", RangeDateTimeFilter),
    ]
    exact_fields = ("generation", "request_id")
    search_help_text = "A generation or request id, whole"
    fields = [
        *("generation", "sequence", "workspace", "api_key", "state", amount, settled, overrun, "usage_source"),
        *("price_version_id", "budget_ids", "created_at", "lease_expires_at", "closed_at"),
    ]
    readonly_fields = fields

    @admin.display(description="Workspace")
    def workspace(self, hold: Hold) -> str:
        return str(hold.account.workspace)

    def found(self, queryset: QuerySet[Hold], term: str) -> QuerySet[Hold]:
        return queryset.filter(generation__in=[term, *_generations(term).values_list("generation", flat=True)[:100]])


@admin.register(Entry)
class EntryAdmin(BookAdmin):
    """Search takes the id of a generation or of a request, or the key of a transfer, whole."""

    amount = credits_field("amount_microcredits", "Credits")

    list_display = [
        time_column("created_at", "Booked"),
        text_column("get_kind_display", "Kind"),
        text_column("debit_account", "From"),
        text_column("credit_account", "To"),
        credits_column("amount_microcredits", "Credits"),
        id_column("generation", "Generation"),
        text_column("actor", "Actor"),
        text_column("reason", "Reason"),
    ]
    list_select_related = ["debit_account__workspace", "credit_account__workspace"]
    list_filter = [
        ("kind", ChoicesDropdownFilter),
        ("created_at", RangeDateTimeFilter),
        ("actor", FieldTextFilter),
    ]
    exact_fields = ("generation", "request_id", "idempotency_key")
    search_help_text = "A generation, request or transfer id, whole"
    fields = [
        *("created_at", "kind", "debit_account", "credit_account", amount, "generation", "hold"),
        *("idempotency_key", "actor", "reason", "expires_at"),
    ]
    readonly_fields = fields

    def found(self, queryset: QuerySet[Entry], term: str) -> QuerySet[Entry]:
        """By keys of indices: the usage entry of a generation is named after it, refunds have their order."""
        generations = [term, *_generations(term).values_list("generation", flat=True)[:100]]
        refunds = CreditOrder.objects.filter(generation__in=generations, entry__isnull=False).values_list("entry_id", flat=True)
        keys = [term, *(f"usage:{generation}" for generation in generations)]
        named = Entry.objects.filter(idempotency_key__in=keys).values_list("pk", flat=True)
        return queryset.filter(pk__in=[*named, *refunds])

    # The proof of the books

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.reconciliation)
        return [path("reconciliation/", view, name="billing_entry_reconciliation"), *super().get_urls()]

    def reconciliation(self, request: HttpRequest) -> HttpResponse:
        """GET shows the form, POST proves the books: of one workspace or of all, of all time or since a day."""
        if not request.user.has_perm("billing.reconcile_ledger"):
            raise PermissionDenied
        form = ReconciliationForm(request.POST if request.method == "POST" else None)
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Reconciliation",
            "form": form,
            "engine": connection.vendor,
        }
        is_wrong = False
        if form.is_valid():
            workspace, since = form.cleaned_data["workspace"], form.cleaned_data["since"]
            context["violations"] = prove(actor=actor_of(request), workspace=workspace, since=since)
            context["not_proven"] = unproven(workspace_id=workspace.pk if workspace else None, since=since)
            context["is_done"] = True
            is_wrong = bool(context["violations"])
        status = 400 if form.is_bound and not form.is_valid() else 200
        context["is_balanced"] = not is_wrong
        return TemplateResponse(request, "admin/billing/reconciliation.html", context, status=status)


class ReconciliationForm(forms.Form):
    workspace = WorkspaceField(required=False, help_text="Id or name; empty for all workspaces.")
    since = forms.DateTimeField(
        required=False, widget=UnfoldAdminDateWidget, help_text="A day (UTC), for what was booked since; empty for all time."
    )


@admin.register(CreditLot)
class CreditLotAdmin(BookAdmin):
    """What is left is as of the last entry that was not a request's."""

    left = credits_field("left_microcredits", "Left")
    amount = credits_field("entry__amount_microcredits", "Of")
    time_field = ""

    list_display = [
        time_column("entry__created_at", "Came"),
        text_column("account__workspace__name", "Workspace"),
        text_column("entry__get_kind_display", "Kind"),
        credits_column("left_microcredits", "Left (credits)"),
        credits_column("entry__amount_microcredits", "Of (credits)"),
        time_column("expires_at", "Expires"),
    ]
    list_select_related = ["entry", "account__workspace"]
    list_filter = [("account__workspace", AutocompleteSelectFilter), ("expires_at", RangeDateTimeFilter)]
    exact_fields = ("entry__idempotency_key",)
    search_help_text = "The id of a transfer, whole"
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
    limit = credits_field("limit_microcredits", "Limit")
    spent = credits_field("spent_microcredits", "Spent")
    held = credits_field("held_microcredits", "Held")

    list_display = [
        id_column("public_id", "Budget"),
        text_column("scope", "Of a"),
        figure_column("scope_id", "Row"),
        text_column("period", "Period"),
        credits_column("limit_microcredits", "Limit (credits)"),
        credits_column("spent_microcredits", "Spent (credits)"),
        credits_column("held_microcredits", "Held (credits)"),
        time_column("period_started_at", "Period began"),
    ]
    list_filter = [("scope", ChoicesDropdownFilter), ("period", ChoicesDropdownFilter)]
    list_filter_submit = True
    search_fields = ["public_id__exact"]
    ordering = ["-pk"]
    fields = ["public_id", "scope", "scope_id", "period", limit, spent, held, "period_started_at"]
    readonly_fields = fields
