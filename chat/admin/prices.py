"""Prices in the staff admin: versions are shown, made and, until they begin, withdrawn; none is ever edited.

A new version is made on the page of its model, beside the versions that were; it counts from now on or from a moment to come.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import StackedInline, TabularInline
from unfold.contrib.filters.admin import AutocompleteSelectFilter, RangeDateTimeFilter
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import PaginationInlineFormSet
from unfold.widgets import UnfoldAdminSplitDateTimeWidget

from billing.admin.columns import badge, credits_column, credits_field, moment_shown, time_column
from billing.admin.parts import CreditsField, ReadOnlyAdmin, ReasonForm, actor_of, form_page, granted_by
from billing.pricing import credits_text
from chat.catalog import in_force, scheduled, with_end
from chat.loading.rows import PriceAmounts, default_pdf_fee, lock, withdraw_price
from chat.models import CatalogModel, Price

_AMOUNTS = {
    "input_microcredits": "Input",
    "output_microcredits": "Output",
    "cached_input_microcredits": "Cached input",
    "cache_write_microcredits": "Cache write",
    "audio_input_microcredits": "Audio input",
    "reasoning_microcredits": "Reasoning",
    "pdf_page_microcredits": "PDF page",
}
_ID_DIGITS = 19
PRICE_COLUMNS = [credits_column(name, title) for name, title in _AMOUNTS.items()]


class NewPriceForm(forms.ModelForm):  # type: ignore[type-arg]
    input_microcredits = CreditsField(label="Input", help_text="Credits per million tokens.")
    output_microcredits = CreditsField(label="Output")
    cached_input_microcredits = CreditsField(label="Cached input", required=False, help_text="Empty: the input price.")
    cache_write_microcredits = CreditsField(label="Cache write", required=False, help_text="Empty: the input price.")
    audio_input_microcredits = CreditsField(label="Audio input", required=False, help_text="Empty: the input price.")
    reasoning_microcredits = CreditsField(label="Reasoning", required=False, help_text="Empty: the output price.")
    pdf_page_microcredits = CreditsField(
        label="PDF page", required=False, help_text="Credits per page. Empty: the default fee."
    )
    begins_at = forms.SplitDateTimeField(
        label="In force from (UTC)",
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget,
        help_text="Empty: from now on. A later moment is kept by itself, and can be withdrawn until then.",
    )
    # The version whose figures the page showed: what was edited is judged by those, whatever is in force when it is saved.
    shown_version = forms.IntegerField(label="", required=False, widget=forms.HiddenInput)

    class Meta:
        model = Price
        fields = list(Price.AMOUNTS)

    def clean_pdf_page_microcredits(self) -> int:
        fee = self.cleaned_data["pdf_page_microcredits"]
        return default_pdf_fee() if fee is None else fee

    def clean_begins_at(self) -> datetime | None:
        begins_at: datetime | None = self.cleaned_data["begins_at"]
        if begins_at is not None and begins_at <= timezone.now():
            raise ValidationError("This moment is over. Leave it empty for a price that counts from now on.")
        return begins_at

    def amounts(self) -> PriceAmounts:
        return PriceAmounts(**{name: self.cleaned_data[name] for name in Price.AMOUNTS})


class NewPriceFormSet(PaginationInlineFormSet):
    """One empty form beside no rows, filled with the price in force when the page was opened."""

    def clean(self) -> None:
        super().clean()
        edited = [form for form in self.forms if form.has_changed()]
        if edited:
            self._check_shown_is_in_force(edited)
        is_priced = self.instance.pk is not None and self.instance.prices.filter(withdrawn_at__isnull=True).exists()
        if self.instance.is_enabled and not is_priced and not edited:
            raise ValidationError(
                "A model without a price cannot be called: give it one, 0 if it is free, or save it disabled."
            )

    def _check_shown_is_in_force(self, edited: list[NewPriceForm]) -> None:
        """The figures that were not edited would bring back a price that is over."""
        lock()  # until the versions are saved: nobody else makes one in between
        price = price_now(self.instance)
        if price is not None and any(form.initial.get("shown_version") != price.pk for form in edited):
            raise ValidationError(
                "The price has changed since this page was opened, so nothing was saved. In force since "
                f"{price.effective_at:%d %b %Y, %H:%M:%S} UTC: {_amounts_text(price)}. Open the page again to change it."
            )


class NewPriceInline(StackedInline):
    model = Price
    form = NewPriceForm
    formset = NewPriceFormSet
    verbose_name = "new price version"
    verbose_name_plural = "New price version (made when saved, if it differs)"
    extra = 1
    max_num = 1
    can_delete = False
    fieldsets = [
        (
            None,
            {
                "fields": [
                    ("input_microcredits", "output_microcredits"),
                    ("cached_input_microcredits", "reasoning_microcredits"),
                    ("cache_write_microcredits", "audio_input_microcredits"),
                    ("pdf_page_microcredits", "shown_version"),
                    "begins_at",
                ]
            },
        )
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        return Price.objects.none()


class _ShownVersion:
    """What is told of a version of a price wherever it is shown."""

    @admin.display(description="State")
    def state(self, price: Price) -> str:
        return _state(price)

    @admin.display(description="In force (UTC)")
    def counts(self, price: Price) -> str:
        return _span(price)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        return with_end(super().get_queryset(request))  # type: ignore[misc] # of the admin class behind it


class PriceHistoryInline(_ShownVersion, TabularInline):
    model = Price
    verbose_name_plural = "Price versions, newest first (credits per million tokens, per PDF page)"
    ordering = ["-effective_at", "-pk"]
    extra = 0
    max_num = 0
    can_delete = False
    per_page = 20
    hide_title = True
    fields = ["version", "state", "counts", *PRICE_COLUMNS]
    readonly_fields = fields

    @admin.display(description="Version")
    def version(self, price: Price) -> str:
        return format_html(
            '<a class="underline" href="{}">{}</a>', reverse("admin:chat_price_change", args=[price.pk]), price.pk
        )

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def price_now(model: CatalogModel) -> Price | None:
    return in_force(timezone.now()).filter(model=model).first() if model.pk else None


def price_shown(model: CatalogModel, version: str) -> Price | None:
    """The version that a page which was sent back had been filled with; `version` is a stranger's."""
    is_id = version.isascii() and version.isdigit() and len(version) < _ID_DIGITS
    return Price.objects.filter(model=model, pk=int(version)).first() if model.pk and is_id else None


def initial_price(price: Price | None) -> dict[str, int | None]:
    """What the form of a new version begins with, and is compared with when it comes back."""
    return {} if price is None else {name: getattr(price, name) for name in Price.AMOUNTS} | {"shown_version": price.pk}


def _amounts_text(price: Price) -> str:
    amounts = ((title, getattr(price, name)) for name, title in _AMOUNTS.items())
    return ", ".join(f"{title} {credits_text(amount)}" for title, amount in amounts if amount is not None)


def _span(price: Price) -> str:
    """When a version counts; it was read by `with_end`."""
    begins, ends = moment_shown(price.effective_at), getattr(price, "replaced_at", None)
    if price.withdrawn_at is not None:
        return format_html("was to be from {}", begins)
    if ends is not None:
        return format_html("{} to {}", begins, moment_shown(ends))
    return format_html("{} {}", "from" if price.effective_at > timezone.now() else "since", begins)


def _state(price: Price) -> str:
    now, ends = timezone.now(), getattr(price, "replaced_at", None)
    if price.withdrawn_at is not None:
        return badge("withdrawn", None, ("none", "block"))
    if price.effective_at > now:
        return badge("scheduled", None, ("info", "schedule"))
    return (
        badge("over", None, ("none", "remove"))
        if ends is not None and ends <= now
        else badge("in force", None, ("plain", "check"))
    )


@admin.register(Price)
class PriceAdmin(_ShownVersion, ReadOnlyAdmin):
    """Every price version there was: a receipt names the one it used. New ones are made on the page of their model."""

    list_display = [
        *("pk", "model", "state", time_column("effective_at", "In force from"), time_column("replaced_at", "Until")),
        *PRICE_COLUMNS,
    ]
    list_select_related = ["model"]
    list_filter = [("model", AutocompleteSelectFilter), ("effective_at", RangeDateTimeFilter)]
    list_filter_submit = True
    search_fields = ["=pk", "model__slug"]
    ordering = ["-effective_at", "-pk"]
    fields = [
        "model",
        "state",
        "counts",
        "created_at",
        "withdrawn_at",
        *(credits_field(*amount) for amount in _AMOUNTS.items()),
    ]
    readonly_fields = fields
    actions_detail = ["withdraw"]
    has_withdraw_permission = granted_by("chat.add_price")

    def get_actions_detail(self, request: HttpRequest, object_id: int) -> list[Any]:
        """What has begun cannot be withdrawn."""
        is_scheduled = scheduled(timezone.now()).filter(pk=object_id).exists()
        return super().get_actions_detail(request, object_id) if is_scheduled else []

    @action(description="Withdraw", icon="event_busy", permissions=["withdraw"], variant=ActionVariant.DANGER)
    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponse:
        price = get_object_or_404(Price.objects.select_related("model"), pk=object_id)
        form = ReasonForm(request.POST or None)
        if form.is_valid():
            try:
                withdraw_price(price, actor=actor_of(request), reason=form.cleaned_data["reason"])
            except ValidationError as error:
                form.add_error(None, error.messages)
            else:
                messages.success(request, f"The version {price.pk} of {price.model} is withdrawn.")
                return HttpResponseRedirect(reverse("admin:chat_price_change", args=[price.pk]))
        note = f"It was to count from {price.effective_at:%d %b %Y, %H:%M:%S} UTC. What is in force then stays in force."
        return form_page(self, request, form, title=f"Withdraw: {price}", button="Withdraw", note=note)
