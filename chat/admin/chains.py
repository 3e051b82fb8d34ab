"""Fallback chains and the default PDF fee in the staff admin."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, QuerySet
from django.forms.formsets import DELETION_FIELD_NAME
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import action
from unfold.forms import PaginationInlineFormSet
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from billing.admin.columns import badge, credits_column
from billing.admin.parts import CreditsField, actor_of, granted_by
from billing.models import AuditEvent
from chat.admin import operations
from chat.admin.parts import CatalogAdmin, VersionedAdmin
from chat.loading.chains import (
    ChainRefused,
    chain_warnings,
    chains_in_force,
    check_chain,
    remove_chain,
    set_chain,
)
from chat.loading.rows import set_default_pdf_fee
from chat.models import CatalogDefault, CatalogModel, ChainLink, FallbackChain


class ChainForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = FallbackChain
        fields = ["source", "workspace"]
        help_texts = {"workspace": "Empty for the default of every workspace."}


class LinkForm(forms.ModelForm):  # type: ignore[type-arg]
    """One model of a chain. Dragging a row writes `place`, and so does a person without a mouse."""

    place = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=99,
        widget=UnfoldAdminIntegerFieldWidget(attrs={"aria-label": "Place in the chain"}),
        help_text="The smallest is tried first; an empty one goes to the end.",
    )
    target = forms.ChoiceField(label="Model", required=False, widget=UnfoldAdminSelectWidget(attrs={"aria-label": "Model"}))

    class Meta:
        model = ChainLink
        fields = ["place", "target"]

    def __init__(self, *args: Any, models: Mapping[str, CatalogModel], **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk:
            self.initial.update(place=self.instance.position, target=self.instance.model.slug)
        cast("forms.ChoiceField", self.fields["target"]).choices = [("", "-"), *((slug, slug) for slug in models)]

    def rank(self) -> tuple[float, int]:
        """Where the row goes: before whoever has the same place if it is new or was moved up, behind if it was moved down."""
        place, before = self.cleaned_data.get("place"), self.initial.get("place")
        if place is None:
            return float("inf"), 0
        return place, -1 if before is None else (place > before) - (place < before)


class LinkFormSet(PaginationInlineFormSet):
    """The models of a chain in order; a row without a model is none. Nothing is saved here: `set_chain` writes the rows."""

    def get_form_kwargs(self, index: int | None) -> dict[str, Any]:
        return {**super().get_form_kwargs(index), "models": self._models}

    @functools.cached_property
    def _models(self) -> dict[str, CatalogModel]:
        return {model.slug: model for model in CatalogModel.objects.all()}

    def _rows(self) -> list[LinkForm]:
        rows = [
            form for form in self.forms if form.cleaned_data.get("target") and not form.cleaned_data.get(DELETION_FIELD_NAME)
        ]
        return sorted(rows, key=LinkForm.rank)

    def models(self) -> list[CatalogModel]:
        """The models chosen, in order."""
        return [self._models[form.cleaned_data["target"]] for form in self._rows()]

    def clean(self) -> None:
        super().clean()
        if any(form.errors for form in self.forms) or not self.instance.source_id:
            return
        source, rows = self.instance.source, self._rows()
        others = chains_in_force(self.instance.workspace)
        others.pop(source.slug, None)
        try:
            check_chain(source.slug, [form.cleaned_data["target"] for form in rows], others)
        except ChainRefused as error:
            if error.position is None:
                raise ValidationError(error.message) from error
            rows[error.position].add_error("target", error.message)


class LinkInline(TabularInline):
    model = ChainLink
    form = LinkForm
    formset = LinkFormSet
    fields = ["place", "target"]
    ordering_field = "place"
    hide_title = True
    verbose_name = "model"
    verbose_name_plural = "Models to try, in this order: drag them, or change their places"
    has_view_permission = granted_by("chat.view_fallbackchain")
    has_add_permission = has_change_permission = has_delete_permission = granted_by(
        "chat.add_fallbackchain", "chat.change_fallbackchain"
    )

    def get_extra(self, request: HttpRequest, obj: FallbackChain | None = None, **options: Any) -> int:
        return 3 if obj is None else 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[ChainLink]:
        queryset: QuerySet[ChainLink] = super().get_queryset(request)
        return queryset.select_related("model")

    def get_fields(self, request: HttpRequest, obj: FallbackChain | None = None) -> list[str]:
        """Whoever may only look sees the rows themselves."""
        return self.fields if self.has_change_permission(request, obj) else ["position", "model"]


@admin.register(FallbackChain)
class FallbackChainAdmin(CatalogAdmin):
    form = ChainForm
    is_noted = False
    inlines = [LinkInline]
    list_display = ["source", "of", "models", "warnings"]
    list_select_related = ["source", "workspace"]
    list_filter = [("source", AutocompleteSelectFilter), ("workspace", AutocompleteSelectFilter)]
    search_fields = ["source__slug", "workspace__name"]
    ordering = ["source__slug", "workspace"]
    autocomplete_fields = ["source", "workspace"]
    fieldsets = [(None, {"fields": [("source", "workspace")]})]

    def get_queryset(self, request: HttpRequest) -> QuerySet[FallbackChain]:
        queryset: QuerySet[FallbackChain] = super().get_queryset(request)
        return queryset.prefetch_related("links__model")

    def get_readonly_fields(self, request: HttpRequest, obj: FallbackChain | None = None) -> list[str]:
        return ["source", "workspace"] if obj else []

    actions_list = ["route"]
    has_route_permission = granted_by("chat.view_fallbackchain")

    @action(description="Show a route", icon="route", permissions=["route"])
    def route(self, request: HttpRequest) -> HttpResponse:
        return operations.route_page(self, request)

    @admin.display(description="Workspace")
    def of(self, chain: FallbackChain) -> str:
        return chain.workspace.name if chain.workspace else "Every workspace"

    @admin.display(description="Warnings")
    def warnings(self, chain: FallbackChain) -> str:
        found = chain_warnings(chain.source, [link.model for link in chain.links.all()])
        return format_html_join(" ", "{}", ((badge("", text, ("warn", "warning")),) for text in found)) or "-"

    def history_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The audit trail of the chain: what it was made of, each time."""
        chain = self.get_object(request, object_id)
        if chain is None or not self.has_view_permission(request, chain):
            raise PermissionDenied
        events = AuditEvent.objects.filter(target=chain.source.slug, action__startswith="chain.", workspace=chain.workspace)
        return operations.page(self, request, "chain_history", f"History: {chain}", events=events.order_by("-pk")[:100])

    @admin.display(description="Models")
    def models(self, chain: FallbackChain) -> str:
        return " > ".join(link.model.slug for link in chain.links.all()) or "none: no fallback"

    def save_model(self, request: HttpRequest, obj: FallbackChain, form: Any, change: bool) -> None:  # noqa: FBT001
        """With its models, in `save_formset`."""

    def save_formset(self, request: HttpRequest, form: Any, formset: LinkFormSet, change: bool) -> None:  # noqa: FBT001
        chain, models = form.instance, formset.models()
        set_chain(chain.source, models, workspace=chain.workspace, actor=actor_of(request))
        chain.pk = FallbackChain.objects.get(source=chain.source, workspace=chain.workspace).pk
        # What Django's log entry reads.
        formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []
        for warning in chain_warnings(chain.source, models):
            messages.warning(request, warning)

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        remove_chain(cast("FallbackChain", obj), actor=actor_of(request))


class DefaultForm(forms.ModelForm):  # type: ignore[type-arg]
    pdf_page_microcredits = CreditsField(
        label="PDF page", help_text="Credits per converted page, for price versions made from now on that name no fee."
    )

    class Meta:
        model = CatalogDefault
        fields = ["pdf_page_microcredits"]


@admin.register(CatalogDefault)
class CatalogDefaultAdmin(VersionedAdmin):
    form = DefaultForm
    is_noted = False
    list_display = ["__str__", credits_column("pdf_page_microcredits", "PDF page (credits)")]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(super().has_add_permission(request)) and not CatalogDefault.objects.exists()

    def has_delete_permission(self, request: HttpRequest, obj: CatalogDefault | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: CatalogDefault, form: Any, change: bool) -> None:  # noqa: FBT001
        set_default_pdf_fee(form.cleaned_data["pdf_page_microcredits"], actor=actor_of(request))
        obj.pk = CatalogDefault.objects.values_list("pk", flat=True).get()
