"""Workspaces and API keys in the staff admin. Rows are read-only; what changes them is an action with a form."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, RangeDateTimeFilter
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from billing import apikeys, budgets, members, presets, workspaces
from billing.admin import credits
from billing.admin.columns import badge, credits_column, credits_field, id_column, state_column, text_column, time_column
from billing.admin.parts import (
    CreditsField,
    ReadOnlyAdmin,
    ReasonForm,
    actor_of,
    form_page,
    granted_by,
    limit_field,
)
from billing.admin.workspace_page import workspace_told
from billing.crediting import PERMISSIONS
from billing.ledger.transfers import TransferError
from billing.models import ApiKey, Budget, Membership, QuotaPreset, Workspace
from billing.models.keys import default_scopes

_KEY_LIMITS = (
    *("max_requests_per_minute", "max_requests_daily", "max_tokens_per_minute", "max_tokens_daily"),
    *("max_concurrent_requests", "max_budget_monthly_microcredits"),
)


class WorkspaceForm(forms.Form):
    name = forms.CharField(max_length=120, widget=UnfoldAdminTextInputWidget)


class KeyForm(forms.Form):
    name = forms.CharField(max_length=120, widget=UnfoldAdminTextInputWidget)
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in sorted(apikeys.SCOPES)],
        initial=default_scopes,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="A key that manages keys or the workspace cannot chat.",
    )
    allowed_models = forms.CharField(
        required=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}), help_text="One slug a line; empty for every model."
    )
    allowed_addresses = forms.CharField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="One address or network a line; empty for any.",
    )
    max_requests_per_minute = limit_field()
    max_requests_daily = limit_field()
    max_tokens_per_minute = limit_field(bits=63)
    max_tokens_daily = limit_field(bits=63)
    max_concurrent_requests = limit_field()
    max_budget_monthly_microcredits = CreditsField(
        label="Max budget monthly (credits)", required=False, help_text="Each month in UTC; empty for none."
    )
    expires_at = forms.SplitDateTimeField(
        required=False, widget=UnfoldAdminSplitDateTimeWidget, help_text="UTC; empty for never."
    )

    def terms(self) -> apikeys.KeyTerms:
        values = self.cleaned_data
        return apikeys.KeyTerms(
            scopes=values["scopes"],
            allowed_models=values["allowed_models"].split() or None,
            allowed_addresses=values["allowed_addresses"].split(),
            expires_at=values["expires_at"],
            **{field: values[field] for field in _KEY_LIMITS},
        )


class PlanForm(ReasonForm):
    plan = forms.ModelChoiceField(
        QuotaPreset.objects.none(), required=False, widget=UnfoldAdminSelectWidget, help_text="Empty for no plan."
    )

    field_order = ["plan", "reason"]

    def __init__(self, *args: Any, workspace: Workspace, **options: Any) -> None:
        super().__init__(*args, **options)
        self.initial["plan"] = workspace.plan_id
        self.fields["plan"].queryset = presets.list_presets(workspace)  # type: ignore[attr-defined]


class SpendStopForm(ReasonForm):
    period = forms.ChoiceField(
        choices=[("day", "Each day"), ("week", "Each week"), ("month", "Each month")], widget=UnfoldAdminSelectWidget
    )
    limit = CreditsField(label="Credits", required=False, help_text="At most so many; empty to take the stop away.")

    field_order = ["period", "limit", "reason"]


class MemberForm(forms.Form):
    user = forms.ModelChoiceField(
        User.objects.filter(is_active=True), to_field_name="username", widget=UnfoldAdminTextInputWidget, label="User name"
    )
    role = forms.ChoiceField(choices=Membership.Role.choices, widget=UnfoldAdminSelectWidget)


@admin.register(Workspace)
class WorkspaceAdmin(ReadOnlyAdmin):
    change_form_template = "admin/billing/workspace.html"
    balance = credits_field("account__posted_microcredits", "Balance")
    held = credits_field("account__held_microcredits", "Held")

    list_display = [
        "name",
        id_column("public_id", "Id"),
        state_column("state", "State"),
        text_column("plan__name", "Plan"),
        credits_column("account__posted_microcredits", "Balance (credits)"),
        credits_column("account__held_microcredits", "Held (credits)"),
        time_column("created_at", "Created"),
    ]
    list_filter_submit = True
    list_select_related = ["account", "plan"]
    list_filter = [("state", ChoicesDropdownFilter), ("created_at", RangeDateTimeFilter)]
    search_fields = ["name", "=public_id"]
    ordering = ["-pk"]
    fields = ["name", "public_id", "state", "plan", "plan_renews_at", balance, held, "created_at"]
    readonly_fields = fields
    actions_list = ["new_workspace"]
    actions_detail = ["move_credits", "mint_key", "set_plan", "stop_spending", "add_member", "suspend", "activate"]
    has_open_permission = granted_by("billing.add_workspace")
    has_move_credits_permission = granted_by(*PERMISSIONS.values())
    has_mint_permission = granted_by("billing.add_apikey")
    has_suspend_permission = granted_by("billing.suspend_workspace")
    has_plan_permission = granted_by("billing.plan_workspace")
    has_add_member_permission = granted_by("billing.add_membership")

    @action(description="New workspace", icon="add", permissions=["open"], variant=ActionVariant.PRIMARY)
    def new_workspace(self, request: HttpRequest) -> HttpResponse:
        form = WorkspaceForm(request.POST or None)
        if form.is_valid():
            try:
                workspace = workspaces.create_workspace(form.cleaned_data["name"], actor=actor_of(request))
            except ValidationError as error:
                form.add_error("name", error)
            else:
                messages.success(request, f"{workspace.name} was created: {workspace.public_id}.")
                return _to_workspace(workspace)
        return form_page(self, request, form, title="New workspace", button="Create")

    @action(description="Move credits", icon="paid", permissions=["move_credits"])
    def move_credits(self, request: HttpRequest, object_id: str) -> HttpResponse:
        workspace = get_object_or_404(Workspace, pk=object_id)
        return credits.move_page(self, request, workspace, done=_to_workspace(workspace))

    @action(description="Mint a key", icon="key", permissions=["mint"])
    def mint_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        workspace = get_object_or_404(Workspace, pk=object_id)
        form = KeyForm(request.POST or None)
        if form.is_valid():
            try:
                key, key_text = apikeys.mint(workspace, form.cleaned_data["name"], actor=actor_of(request), terms=form.terms())
            except ValidationError as error:
                form.add_error(None, error.messages)
            else:
                return self._show_key(request, key, key_text)
        return form_page(self, request, form, title=f"Mint a key: {workspace.name}", button="Mint")

    def _show_key(self, request: HttpRequest, key: ApiKey, key_text: str) -> TemplateResponse:
        """The one page that holds the key: no redirect, so that neither a cookie nor a session row carries it."""
        context = {
            **self.admin_site.each_context(request),
            "opts": ApiKey._meta,
            "title": "API key",
            "key": key,
            "key_text": key_text,
        }
        return TemplateResponse(request, "admin/billing/key_made.html", context, headers={"Cache-Control": "no-store"})

    @action(description="Set the plan", icon="speed", permissions=["plan"])
    def set_plan(self, request: HttpRequest, object_id: str) -> HttpResponse:
        workspace = get_object_or_404(Workspace, pk=object_id)
        form = PlanForm(request.POST or None, workspace=workspace)
        if form.is_valid():
            plan, reason = form.cleaned_data["plan"], form.cleaned_data["reason"]
            try:
                presets.set_plan(workspace, plan, actor=actor_of(request), reason=reason)
            except TransferError as error:
                form.add_error(None, f"{error}.")
            else:
                messages.success(request, f"The plan of {workspace.name} is {plan or 'none'}.")
                return _to_workspace(workspace)
        note = (
            "The limits of a plan count for every key of the workspace, within a second. Its first credits come at once; "
            "those of another plan come with the next renewal."
        )
        return form_page(self, request, form, title=f"Set the plan: {workspace.name}", button="Set", note=note)

    @action(description="Spend stop", icon="speed_camera", permissions=["suspend"])
    def stop_spending(self, request: HttpRequest, object_id: str) -> HttpResponse:
        workspace = get_object_or_404(Workspace, pk=object_id)
        form = SpendStopForm(request.POST or None)
        if form.is_valid():
            values = form.cleaned_data
            try:
                budgets.set_budget(
                    workspace,
                    period=Budget.Period(values["period"]),
                    limit_microcredits=values["limit"],
                    actor=actor_of(request),
                    reason=values["reason"],
                )
            except ValidationError as error:
                form.add_error(None, error.messages)
            else:
                messages.success(request, f"The spend stop of {workspace.name} is set.")
                return _to_workspace(workspace)
        note = (
            "What all keys of the workspace may spend together in a period (UTC); what is more gets 402, from the next hold on. "
            "Its members may make it tighter, not looser; a tighter limit that they set themselves stays."
        )
        return form_page(self, request, form, title=f"Spend stop: {workspace.name}", button="Set spend stop", note=note)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        workspace = (
            Workspace.objects.select_related("account", "plan").filter(pk=object_id).first() if object_id.isdecimal() else None
        )
        told = {} if workspace is None else workspace_told(workspace)
        page: HttpResponse = super().change_view(request, object_id, form_url, (extra_context or {}) | told)
        return page

    @action(description="Add a member", icon="person_add", permissions=["add_member"])
    def add_member(self, request: HttpRequest, object_id: str) -> HttpResponse:
        workspace = get_object_or_404(Workspace, pk=object_id)
        form = MemberForm(request.POST or None)
        if form.is_valid():
            try:
                role = Membership.Role(form.cleaned_data["role"])
                member = members.add_member(workspace, form.cleaned_data["user"], role, actor=actor_of(request))
            except ValidationError as error:
                form.add_error(None, error.messages)
            else:
                messages.success(request, f"{member} is a member of {workspace.name}.")
                return _to_workspace(workspace)
        return form_page(self, request, form, title=f"Add a member: {workspace.name}", button="Add")

    @action(description="Suspend", icon="block", permissions=["suspend"], variant=ActionVariant.DANGER)
    def suspend(self, request: HttpRequest, object_id: str) -> HttpResponse:
        note = "All keys of the workspace are refused until it is activated again."
        return self._change_state(request, object_id, title="Suspend", change=workspaces.suspend, note=note)

    @action(description="Activate", icon="check_circle", permissions=["suspend"])
    def activate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._change_state(
            request, object_id, title="Activate", change=workspaces.activate, note="The keys of the workspace work again."
        )

    def _change_state(self, request: HttpRequest, object_id: str, *, title: str, change: Any, note: str) -> HttpResponse:
        workspace = get_object_or_404(Workspace, pk=object_id)
        form = ReasonForm(request.POST or None)
        if form.is_valid():
            change(workspace, actor=actor_of(request), reason=form.cleaned_data["reason"])
            messages.success(request, f"{workspace.name} is {workspace.get_state_display().lower()}.")
            return _to_workspace(workspace)
        return form_page(self, request, form, title=f"{title}: {workspace.name}", button=title, note=note)


def _to_workspace(workspace: Workspace) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:billing_workspace_change", args=[workspace.pk]))


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    """Keys are minted on the page of their workspace."""

    budget = credits_field("max_budget_monthly_microcredits", "Max budget monthly")

    list_display = [
        "name",
        id_column("hint", "Key"),
        text_column("workspace__name", "Workspace"),
        "state",
        time_column("created_at", "Created"),
        time_column("expires_at", "Expires"),
    ]
    list_filter_submit = True
    list_select_related = ["workspace"]
    list_filter = [
        ("workspace", AutocompleteSelectFilter),
        ("revoked_at", admin.EmptyFieldListFilter),
        ("created_at", RangeDateTimeFilter),
    ]
    search_fields = ["name", "=hint", "=workspace__public_id"]
    ordering = ["-pk"]
    fields = [
        *(
            "workspace",
            "name",
            "hint",
            "public_id",
            "owner",
            "preset",
            "state",
            "scopes",
            "allowed_models",
            "allowed_addresses",
        ),
        *("max_requests_per_minute", "max_requests_daily", "max_tokens_per_minute", "max_tokens_daily"),
        *("max_concurrent_requests", budget),
        *("created_at", "expires_at", "revoked_at"),
    ]
    readonly_fields = fields
    actions_detail = ["revoke"]
    has_revoke_permission = granted_by("billing.revoke_apikey")

    @admin.display(description="State")
    def state(self, key: ApiKey) -> str:
        if key.revoked_at is not None:
            return badge("revoked")
        return badge("expired") if apikeys.is_expired(key) else badge("active")

    @action(description="Revoke", icon="block", permissions=["revoke"], variant=ActionVariant.DANGER)
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = get_object_or_404(ApiKey.objects.select_related("workspace"), pk=object_id)
        form = ReasonForm(request.POST or None)
        if form.is_valid():
            apikeys.revoke(key, actor=actor_of(request), reason=form.cleaned_data["reason"])
            messages.success(request, f"The key {key.hint} is revoked.")
            return HttpResponseRedirect(reverse("admin:billing_apikey_change", args=[key.pk]))
        note = "The key is refused everywhere within a second, for good. Streams that run on it end."
        return form_page(self, request, form, title=f"Revoke: {key.name} {key.hint}", button="Revoke", note=note)
