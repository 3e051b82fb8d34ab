"""Fallback chains and the default PDF fee in the staff admin."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import action
from unfold.widgets import UnfoldAdminSelectWidget

from billing.admin.columns import badge, credits_column
from billing.admin.parts import CreditsField, actor_of, granted_by
from billing.models import AuditEvent
from chat.admin import operations
from chat.admin.parts import CatalogAdmin, VersionedAdmin
from chat.loading.chains import (
    LONGEST_CHAIN,
    ChainRefused,
    chain_warnings,
    chains_in_force,
    check_chain,
    remove_chain,
    set_chain,
)
from chat.loading.rows import set_default_pdf_fee
from chat.models import CatalogDefault, CatalogModel, FallbackChain

_LINKS = [f"link_{position}" for position in range(1, LONGEST_CHAIN + 1)]


def _link(position: int) -> forms.ChoiceField:
    return forms.ChoiceField(label=f"{position}.", required=False, widget=UnfoldAdminSelectWidget)


class ChainForm(forms.ModelForm):  # type: ignore[type-arg]
    """The models of the chain in order, one field each; gaps close when saved."""

    link_1 = _link(1)
    link_2 = _link(2)
    link_3 = _link(3)
    link_4 = _link(4)
    link_5 = _link(5)
    link_6 = _link(6)
    link_7 = _link(7)
    link_8 = _link(8)

    class Meta:
        model = FallbackChain
        fields = ["source", "workspace"]
        help_texts = {"workspace": "Empty for the default of every workspace."}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        slugs = [link.model.slug for link in self.instance.links.select_related("model")] if self.instance.pk else []
        choices = [("", "-"), *((slug, slug) for slug in CatalogModel.objects.values_list("slug", flat=True))]
        for index, name in enumerate(_LINKS):
            field = cast("forms.ChoiceField", self.fields[name])
            field.choices = choices
            field.initial = slugs[index] if index < len(slugs) else ""

    def models(self) -> list[CatalogModel]:
        """The models chosen, in order."""
        slugs = [self.cleaned_data[name] for name in _LINKS if self.cleaned_data.get(name)]
        rows = CatalogModel.objects.in_bulk(slugs, field_name="slug")
        return [rows[slug] for slug in slugs]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        # On the page of a chain that stands, source and workspace are read-only and not among the values.
        source = values.get("source") or (self.instance.source if self.instance.source_id else None)
        workspace = values.get("workspace") or self.instance.workspace
        if source is None or self.errors:
            return values
        others = chains_in_force(workspace)
        others.pop(source.slug, None)
        filled = [name for name in _LINKS if values.get(name)]
        try:
            check_chain(source.slug, [values[name] for name in filled], others)
        except ChainRefused as error:
            self.add_error(filled[error.position] if error.position is not None else None, error.message)
        return values


@admin.register(FallbackChain)
class FallbackChainAdmin(CatalogAdmin):
    form = ChainForm
    is_noted = False
    list_display = ["source", "of", "models", "warnings"]
    list_select_related = ["source", "workspace"]
    list_filter = [("source", AutocompleteSelectFilter), ("workspace", AutocompleteSelectFilter)]
    search_fields = ["source__slug", "workspace__name"]
    ordering = ["source__slug", "workspace"]
    autocomplete_fields = ["source", "workspace"]
    fieldsets = [(None, {"fields": [("source", "workspace")]}), ("Models to try, in this order", {"fields": _LINKS})]

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
        models = form.models()
        set_chain(obj.source, models, workspace=obj.workspace, actor=actor_of(request))
        if not change:
            obj.pk = FallbackChain.objects.get(source=obj.source, workspace=obj.workspace).pk
        for warning in chain_warnings(obj.source, models):
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
