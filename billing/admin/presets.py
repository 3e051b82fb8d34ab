"""Presets of limits, and the members of workspaces, in the staff admin. What changes a preset is an action with a form."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from billing import members, presets, quotas
from billing.admin.columns import credits_column, credits_field, figure_column, text_column, time_column
from billing.admin.parts import (
    CreditsField,
    EditedOnly,
    ReadOnlyAdmin,
    VersionsKept,
    WorkspaceField,
    actor_of,
    form_page,
    granted_by,
    limit_field,
)
from billing.models import Membership, QuotaPreset
from infery_site.errors import ApiError

_PLAN_FIELDS = presets.PlanCredits.__struct_fields__


class LimitsForm(EditedOnly, forms.Form):
    """A preset: its name, all its limits, and what it gives as a plan."""

    name = forms.CharField(max_length=120, widget=UnfoldAdminTextInputWidget)
    allowed_models = forms.CharField(
        required=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}), help_text="One slug a line; empty for every model."
    )
    max_requests_per_minute = limit_field()
    max_requests_daily = limit_field()
    max_tokens_per_minute = limit_field(bits=63)
    max_tokens_daily = limit_field(bits=63)
    max_concurrent_requests = limit_field()
    max_budget_monthly_microcredits = CreditsField(
        label="Max budget monthly (credits)", required=False, help_text="Of each key, each month in UTC; empty for none."
    )
    max_file_size_bytes = limit_field(least=0, bits=63)
    max_files_per_workspace = limit_field(least=0)
    max_storage_bytes_per_workspace = limit_field(least=0, bits=63)
    monthly_microcredits = CreditsField(
        label="Monthly credits", required=False, help_text="Of a workspace whose plan this is; empty for none."
    )
    has_rollover = forms.BooleanField(
        label="They roll over",
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="What is left of a month can be spent in the next one.",
    )
    max_rollover_microcredits = CreditsField(
        label="Max rollover (credits)", required=False, help_text="At most so many of them; empty for all."
    )

    def plan_credits(self) -> presets.PlanCredits:
        return presets.PlanCredits(**{field: self.cleaned_data[field] for field in _PLAN_FIELDS})

    def limits(self) -> quotas.Limits:
        values = {field: self.cleaned_data[field] for field in quotas.FIELDS}
        return quotas.Limits(**{**values, "allowed_models": frozenset(values["allowed_models"].split()) or None})


class RoleForm(forms.Form):
    role = forms.ChoiceField(
        choices=[choice for choice in Membership.Role.choices if choice[0] != Membership.Role.OWNER],
        widget=UnfoldAdminSelectWidget,
    )


class PresetForm(LimitsForm):
    workspace = WorkspaceField(required=False, help_text="Id or name of whose it is; empty for every workspace.")

    field_order = ["name", "workspace"]


def _values_of(preset: QuotaPreset) -> dict[str, Any]:
    """What the form of a preset begins with."""
    values: dict[str, Any] = {field: getattr(preset, field) for field in ("name", *quotas.FIELDS, *_PLAN_FIELDS)}
    models = [model for model in preset.allowed_models if model != quotas.EVERY_MODEL]
    return {**values, "allowed_models": "\n".join(models)}


@admin.register(QuotaPreset)
class QuotaPresetAdmin(VersionsKept, ReadOnlyAdmin):
    budget = credits_field("max_budget_monthly_microcredits", "Max budget monthly")
    monthly = credits_field("monthly_microcredits", "Monthly")
    rollover = credits_field("max_rollover_microcredits", "Max rollover")

    list_display = [
        "name",
        text_column("workspace__name", "Workspace"),
        figure_column("max_requests_per_minute", "Requests a minute"),
        figure_column("max_requests_daily", "Requests a day"),
        figure_column("max_tokens_daily", "Tokens a day"),
        credits_column("max_budget_monthly_microcredits", "Budget of a key (credits)"),
        credits_column("monthly_microcredits", "Monthly credits"),
        time_column("created_at", "Created"),
    ]
    list_filter_submit = True
    list_select_related = ["workspace"]
    list_filter = [("workspace", AutocompleteSelectFilter)]
    search_fields = ["name", "=public_id"]
    ordering = ["-pk"]
    fields = [
        *("name", "public_id", "workspace", "allowed_models"),
        *("max_requests_per_minute", "max_requests_daily", "max_tokens_per_minute", "max_tokens_daily"),
        *("max_concurrent_requests", budget),
        *("max_file_size_bytes", "max_files_per_workspace", "max_storage_bytes_per_workspace"),
        *(monthly, "has_rollover", rollover, "created_at"),
    ]
    readonly_fields = fields
    actions_list = ["new_preset"]
    actions_detail = ["change_limits"]
    has_open_permission = granted_by("billing.add_quotapreset")
    has_adjust_permission = granted_by("billing.change_quotapreset")

    @action(description="New preset", icon="add", permissions=["open"], variant=ActionVariant.PRIMARY)
    def new_preset(self, request: HttpRequest) -> HttpResponse:
        form = PresetForm(request.POST or None)
        if form.is_valid():
            values = form.cleaned_data
            try:
                preset = presets.create_preset(
                    values["name"],
                    form.limits(),
                    actor=actor_of(request),
                    workspace=values["workspace"],
                    plan_credits=form.plan_credits(),
                )
            except ValidationError as error:
                form.add_error(None, error.messages)
            else:
                messages.success(request, f"{preset.name} was created.")
                return _to_preset(preset)
        return form_page(self, request, form, title="New preset", button="Create")

    @action(description="Change", icon="edit", permissions=["adjust"])
    def change_limits(self, request: HttpRequest, object_id: str) -> HttpResponse:
        preset = get_object_or_404(QuotaPreset.objects.select_related("workspace"), pk=object_id)
        form = LimitsForm(request.POST or None, initial=_values_of(preset))
        if form.is_valid():
            try:
                presets.change_preset(
                    preset,
                    form.cleaned_data["name"],
                    form.limits(),
                    actor=actor_of(request),
                    plan_credits=form.plan_credits(),
                )
            except ValidationError as error:
                form.add_error(None, error.messages)
            else:
                messages.success(request, f"{preset.name} was changed.")
                return _to_preset(preset)
        note = "Limits count at once for every workspace, member and key that has this preset, credits from the next renewal."
        return form_page(self, request, form, title=f"Change: {preset.name}", button="Change", note=note)


def _to_preset(preset: QuotaPreset) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:billing_quotapreset_change", args=[preset.pk]))


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    """Members are added on the page of their workspace."""

    list_display = [
        "user",
        text_column("workspace__name", "Workspace"),
        "role",
        text_column("preset__name", "Preset"),
        time_column("created_at", "Since"),
        time_column("removed_at", "Left"),
    ]
    list_filter_submit = True
    list_select_related = ["user", "workspace", "preset"]
    list_filter = [
        ("workspace", AutocompleteSelectFilter),
        ("role", ChoicesDropdownFilter),
        ("removed_at", admin.EmptyFieldListFilter),
    ]
    search_fields = ["user__username", "=public_id", "=workspace__public_id"]
    ordering = ["-pk"]
    fields = ["user", "workspace", "public_id", "role", "preset", "created_at", "removed_at"]
    readonly_fields = fields
    actions_detail = ["change_role", "remove"]
    has_manage_permission = granted_by("billing.add_membership")

    @action(description="Change the role", icon="manage_accounts", permissions=["manage"])
    def change_role(self, request: HttpRequest, object_id: str) -> HttpResponse:
        member = get_object_or_404(Membership.objects.select_related("workspace", "user"), pk=object_id)
        form = RoleForm(request.POST or None, initial={"role": member.role})
        if form.is_valid():
            try:
                revoked = members.change_role(member, Membership.Role(form.cleaned_data["role"]), actor=actor_of(request))
            except (ValidationError, ApiError) as error:
                form.add_error(None, error.messages if isinstance(error, ValidationError) else error.message)
            else:
                messages.success(
                    request, f"{member.user} is {member.get_role_display().lower()} now; {revoked} keys were revoked."
                )
                return _to_member(member)
        note = "It counts at once. Keys that the new role could not have made are revoked."
        return form_page(self, request, form, title=f"Change the role: {member.user}", button="Change role", note=note)

    @action(description="Remove", icon="person_remove", permissions=["manage"], variant=ActionVariant.DANGER)
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponse:
        member = get_object_or_404(Membership.objects.select_related("workspace", "user"), pk=object_id)
        form = forms.Form(request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                revoked = members.remove_member(member, actor=actor_of(request))
            except (ValidationError, ApiError) as error:
                form.add_error(None, error.messages if isinstance(error, ValidationError) else error.message)
            else:
                messages.success(request, f"{member.user} was removed; {revoked} keys were revoked.")
                return _to_member(member)
        note = f"{member.user} leaves {member.workspace}, and the keys of this member are refused within a second."
        return form_page(self, request, form, title=f"Remove: {member.user}", button="Remove member", note=note)


def _to_member(member: Membership) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:billing_membership_change", args=[member.pk]))
