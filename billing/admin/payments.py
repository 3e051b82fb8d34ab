"""Payments in the staff admin, to read. What is refunded or disputed is decided at the provider, and shown here."""

from __future__ import annotations

from django.contrib import admin
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, RangeDateTimeFilter

from billing.admin.columns import credits_column, credits_field, figure_column, state_column, text_column, time_column
from billing.admin.lists import BookAdmin
from billing.models import Payment


@admin.register(Payment)
class PaymentAdmin(BookAdmin):
    amount = credits_field("amount_microcredits", "Credits")
    taken = credits_field("taken_microcredits", "Taken back")
    owed = credits_field("owed_microcredits", "Still held by requests, then taken back")

    list_display = [
        time_column("created_at", "Begun"),
        text_column("workspace__name", "Workspace"),
        text_column("get_origin_display", "Origin"),
        credits_column("amount_microcredits", "Credits"),
        figure_column("price_units", "Price (units)"),
        text_column("currency", "Currency"),
        figure_column("refunded_units", "Refunded"),
        figure_column("disputed_units", "Disputed"),
        credits_column("taken_microcredits", "Taken back (credits)"),
        state_column("state", "State", {}),
    ]
    list_select_related = ["workspace"]
    list_filter = [
        ("state", ChoicesDropdownFilter),
        ("origin", ChoicesDropdownFilter),
        ("workspace", AutocompleteSelectFilter),
        ("created_at", RangeDateTimeFilter),
    ]
    exact_fields = ("public_id", "intent_id", "session_id", "workspace__public_id")
    search_help_text = "An id of a payment, ours or the provider's, or of a workspace, whole"
    fields = [
        *("public_id", "workspace", "origin", amount, "price_units", "currency", "state", "failure", "entry"),
        *("intent_id", "session_id", "refunded_units", "disputed_units", taken, owed, "created_by", "created_at", "settled_at"),
    ]
    readonly_fields = fields
