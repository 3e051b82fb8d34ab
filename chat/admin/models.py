"""Models in the staff admin: limits, capability flags, targets and price versions on one page.

A price version is never edited: the page shows the versions that were and takes a new one, in credits.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.admin import StackedInline
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from billing.admin.columns import badge, figure
from billing.admin.parts import EditedOnly, actor_of, granted_by
from billing.pricing import credits_text
from chat.admin import operations
from chat.admin.parts import VersionedAdmin
from chat.admin.prices import NewPriceFormSet, NewPriceInline, PriceHistoryInline, initial_price, price_now, price_shown
from chat.admin.samples import sample_costs
from chat.catalog import in_force, price_list
from chat.loading.rows import add_price, apply_default_pdf_fee, has_history, set_models_enabled
from chat.models import CAPABILITY_FLAGS, IMAGE_RULE, CatalogModel, Price, Target
from chat.schema.route import FALLBACK_STATUSES, QUIRKS

_DEPRECATION_NEAR = timedelta(days=30)


class StatusesField(forms.Field):
    """HTTP statuses as people write a list."""

    widget = UnfoldAdminTextInputWidget

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[int]:
        words = str(value or "").replace(",", " ").split()
        known = {str(status): status for status in FALLBACK_STATUSES}
        wrong = [word[:8] for word in words if word not in known]
        if wrong:
            raise ValidationError(f"No fallback on {', '.join(wrong)}: a fault of the caller, or no failure.")
        return sorted({known[word] for word in words})


class TargetForm(EditedOnly, forms.ModelForm):  # type: ignore[type-arg]
    quirks = forms.MultipleChoiceField(
        choices=[(quirk, quirk) for quirk in sorted(QUIRKS)],
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="How this server differs from its dialect.",
    )
    fallback_statuses = StatusesField(
        required=False, help_text="HTTP statuses after which somebody else is asked. Empty: all but the caller's own faults."
    )

    class Meta:
        model = Target
        fields = [
            *("provider", "upstream_model", "weight", "retries"),
            *("connect_s", "first_token_s", "idle_s", "total_s", "fallback_statuses", "quirks"),
        ]
        labels = {
            "connect_s": "Connect (s)",
            "first_token_s": "First token (s)",
            "idle_s": "Idle (s)",
            "total_s": "Total (s)",
        }


class ModelForm(EditedOnly, forms.ModelForm):  # type: ignore[type-arg]
    """A model that the incident switch took off stays off when somebody saves a new name."""


class TargetInline(StackedInline):
    model = Target
    form = TargetForm
    extra = 0
    fieldsets = [
        (
            None,
            {
                "fields": [
                    ("provider", "upstream_model"),
                    ("weight", "retries"),
                    ("connect_s", "first_token_s"),
                    ("idle_s", "total_s"),
                    "fallback_statuses",
                    "quirks",
                ]
            },
        )
    ]


@admin.register(CatalogModel)
class CatalogModelAdmin(VersionedAdmin):
    form = ModelForm
    list_display = [
        *("slug", "name", "modality", "capabilities", "input_price", "output_price", "pdf_price", "providers"),
        *("state", "deprecation"),
    ]
    list_filter = [("modality", ChoicesDropdownFilter), "is_enabled", *CAPABILITY_FLAGS.values()]
    search_fields = ["slug", "name", "owned_by"]
    actions = ["enable", "disable", "use_default_pdf_fee"]
    fieldsets = [
        (None, {"fields": [("slug", "name"), ("owned_by", "modality"), ("is_enabled", "deprecated_on")]}),
        ("Limits", {"fields": [("context_window", "max_output_tokens"), "has_context_fallback"]}),
        ("Tokens of an image", {"fields": [tuple(list(IMAGE_RULE.values())[:2]), tuple(list(IMAGE_RULE.values())[2:])]}),
        ("Capabilities", {"fields": [tuple(list(CAPABILITY_FLAGS.values())[:4]), tuple(list(CAPABILITY_FLAGS.values())[4:])]}),
        ("What requests cost at the price in force", {"fields": ["samples"]}),
    ]
    readonly_fields = ["samples"]
    inlines = [TargetInline, NewPriceInline, PriceHistoryInline]
    actions_list = ["incident", "import_file", "export_file"]
    has_stop_permission = granted_by(*operations.IncidentForm.KINDS.values())
    has_import_permission = granted_by("chat.change_catalogmodel")
    has_export_permission = granted_by("chat.view_catalogmodel")

    @action(description="Incident switch", icon="emergency", permissions=["stop"], variant=ActionVariant.DANGER)
    def incident(self, request: HttpRequest) -> HttpResponse:
        return operations.incident_page(self, request)

    @action(description="Import", icon="upload_file", permissions=["import"])
    def import_file(self, request: HttpRequest) -> HttpResponse:
        return operations.import_page(self, request)

    @action(description="Export", icon="download", permissions=["export"])
    def export_file(self, request: HttpRequest) -> HttpResponse:
        return operations.export_file(request)

    @admin.display(description="State", ordering="is_enabled")
    def state(self, model: CatalogModel) -> str:
        return badge("enabled" if model.is_enabled else "disabled")

    @admin.display(description="Deprecation", ordering="deprecated_on")
    def deprecation(self, model: CatalogModel) -> str:
        if model.deprecated_on is None:
            return "-"
        is_near = model.deprecated_on <= timezone.now().date() + _DEPRECATION_NEAR
        day = f"{model.deprecated_on:%d %b %Y}".lstrip("0")
        return badge("", day, ("warn", "event_busy") if is_near else ("plain", "event"))

    @admin.display(description="What requests cost")
    def samples(self, model: CatalogModel) -> str:
        price = price_now(model)
        return sample_costs(price_list(price)) if price else "A price is needed first."

    def get_queryset(self, request: HttpRequest) -> QuerySet[CatalogModel]:
        queryset: QuerySet[CatalogModel] = super().get_queryset(request)
        prices = Prefetch("prices", queryset=in_force(timezone.now()), to_attr="prices_in_force")
        return queryset.prefetch_related(prices, "targets__provider")

    @admin.display(description="Capabilities")
    def capabilities(self, model: CatalogModel) -> str:
        return ", ".join(name for name, flag in CAPABILITY_FLAGS.items() if getattr(model, flag))

    @admin.display(description="Input (credits)")
    def input_price(self, model: CatalogModel) -> str:
        return _price_in_force(model, "input_microcredits")

    @admin.display(description="PDF page (credits)")
    def pdf_price(self, model: CatalogModel) -> str:
        return _price_in_force(model, "pdf_page_microcredits")

    @admin.display(description="Output (credits)")
    def output_price(self, model: CatalogModel) -> str:
        return _price_in_force(model, "output_microcredits")

    @admin.display(description="Providers")
    def providers(self, model: CatalogModel) -> str:
        return ", ".join(sorted({target.provider.slug for target in model.targets.all()})) or "none"

    def has_delete_permission(self, request: HttpRequest, obj: CatalogModel | None = None) -> bool:
        """A model of which usage speaks is disabled instead."""
        return bool(super().has_delete_permission(request, obj)) and not (obj is not None and has_history(obj))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Prices cannot be deleted by themselves, but go with a model that was never used."""
        deleted, counts, _, protected = super().get_deleted_objects(objs, request)
        return deleted, counts, set(), protected

    def get_formset_kwargs(self, request: HttpRequest, obj: CatalogModel, inline: Any, prefix: str) -> dict[str, Any]:
        options: dict[str, Any] = super().get_formset_kwargs(request, obj, inline, prefix)
        if isinstance(inline, NewPriceInline):
            sent = request.POST.get(f"{prefix}-0-shown_version", "")
            price = price_shown(obj, sent) if request.method == "POST" else price_now(obj)
            options["initial"] = [initial_price(price)]
        return options

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:  # noqa: FBT001
        if not isinstance(formset, NewPriceFormSet):
            super().save_formset(request, form, formset, change)
            return
        added = [
            add_price(form.instance, price.amounts(), actor=actor_of(request), effective_at=price.cleaned_data["begins_at"])
            for price in formset.forms
            if price.has_changed()
        ]
        if None in added:
            messages.warning(request, "The price costs what is in force then anyway, so there is no new version.")
        # What Django's log entry reads.
        formset.new_objects = [price for price in added if price is not None]
        formset.changed_objects, formset.deleted_objects = [], []

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[CatalogModel]) -> None:
        self._set_enabled(request, queryset, is_enabled=True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[CatalogModel]) -> None:
        self._set_enabled(request, queryset, is_enabled=False)

    def _set_enabled(self, request: HttpRequest, queryset: QuerySet[CatalogModel], *, is_enabled: bool) -> None:
        try:
            count = set_models_enabled(queryset, is_enabled=is_enabled, actor=actor_of(request))
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
        else:
            messages.success(request, f"{count} models {'enabled' if is_enabled else 'disabled'}.")

    @admin.action(description="Use the default PDF fee", permissions=["change"])
    def use_default_pdf_fee(self, request: HttpRequest, queryset: QuerySet[CatalogModel]) -> None:
        count = apply_default_pdf_fee(queryset, actor=actor_of(request))
        messages.success(request, f"{count} models have a new price version with the default fee.")


def _price_in_force(model: CatalogModel, field: str) -> str:
    prices: Sequence[Price] = getattr(model, "prices_in_force", ())
    return figure(credits_text(getattr(prices[0], field))) if prices else "no price"
