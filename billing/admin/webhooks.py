"""Webhooks of workspaces in the staff admin, and the messages that went to them. `billing.webhooks` rules.

The secret of a webhook is on no page.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, RangeDateTimeFilter
from unfold.decorators import action
from unfold.enums import ActionVariant

from billing.admin.columns import (
    badge,
    code,
    figure_column,
    id_column,
    link,
    state_column,
    text_column,
    time_column,
    written,
)
from billing.admin.lists import BookAdmin
from billing.admin.parts import ReasonForm, actor_of, form_page, granted_by
from billing.models import Notice, WebhookDelivery, WebhookEndpoint
from billing.webhooks import deliveries, endpoints


def _word(endpoint: WebhookEndpoint) -> str:
    if endpoint.removed_at is not None:
        return "removed"
    if endpoint.disabled_at is not None:
        return "disabled"
    return "active" if endpoint.failing_since is None else "failing"


@admin.display(description="State")
def _state(endpoint: WebhookEndpoint) -> SafeString:
    looks = {"active": ("plain", "check"), "failing": ("warn", "warning"), "disabled": ("bad", "block")}
    return badge(_word(endpoint), look=looks.get(_word(endpoint), ("none", "remove")))


_state.csv = _word  # type: ignore[attr-defined]


def _host(endpoint: WebhookEndpoint) -> str:
    """What of the address fits into a list."""
    try:
        return urlsplit(endpoint.url).netloc
    except ValueError:
        return ""


@admin.display(description="Host")
def _host_shown(endpoint: WebhookEndpoint) -> str:
    return code(_host(endpoint), longest=40)


_host_shown.csv = _host  # type: ignore[attr-defined]


@admin.display(description="Gets")
def _kinds(endpoint: WebhookEndpoint) -> str:
    return ", ".join(map(str, endpoint.kinds)) or "everything"


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(BookAdmin):
    time_field = ""
    list_display = [
        id_column("public_id", "Webhook"),
        text_column("workspace__name", "Workspace"),
        _host_shown,
        _kinds,
        _state,
        time_column("failing_since", "Failing since"),
        time_column("created_at", "Made"),
    ]
    list_select_related = ["workspace"]
    list_filter = [
        ("workspace", AutocompleteSelectFilter),
        ("failing_since", admin.EmptyFieldListFilter),
        ("disabled_at", admin.EmptyFieldListFilter),
        ("removed_at", admin.EmptyFieldListFilter),
    ]
    exact_fields = ("public_id", "workspace__public_id")
    search_help_text = "The id of a webhook or of a workspace, whole"
    fields = [
        *("public_id", "workspace", "url", _kinds, _state, time_column("failing_since", "Failing since")),
        *(time_column("disabled_at", "Disabled"), "disabled_because"),
        *(time_column("created_at", "Made"), time_column("removed_at", "Removed")),
    ]
    readonly_fields = fields
    actions_detail = ["its_messages", "disable"]
    has_read_messages_permission = granted_by("billing.view_webhookdelivery")
    has_disable_permission = granted_by("billing.disable_webhookendpoint")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEndpoint]:
        queryset: QuerySet[WebhookEndpoint] = super().get_queryset(request)
        return queryset.select_related("workspace").defer("secret")

    @action(description="Messages to it", icon="outbox", permissions=["read_messages"])
    def its_messages(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = get_object_or_404(WebhookEndpoint, pk=object_id)
        return HttpResponseRedirect(f"{reverse('admin:billing_webhookdelivery_changelist')}?q={endpoint.public_id}")

    @action(description="Disable", icon="block", permissions=["disable"], variant=ActionVariant.DANGER)
    def disable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = get_object_or_404(WebhookEndpoint.objects.select_related("workspace"), pk=object_id)
        form = ReasonForm(request.POST or None)
        if form.is_valid():
            if endpoints.disable(endpoint, actor=actor_of(request), reason=form.cleaned_data["reason"]):
                messages.success(request, f"The webhook {endpoint.public_id} is disabled.")
                return HttpResponseRedirect(reverse("admin:billing_webhookendpoint_change", args=[endpoint.pk]))
            form.add_error(None, "It takes nothing already.")
        note = (
            f"Nothing is sent to this webhook of {endpoint.workspace.name} any more, what waits included, until one of its "
            "members enables it again. The workspace is told by mail and reads the reason."
        )
        return form_page(self, request, form, title=f"Disable: {endpoint.public_id}", button="Disable", note=note)


@admin.display(description="Last answer")
def _answer(delivery: WebhookDelivery) -> str:
    """Its status, or why there was none."""
    return delivery.last_error if delivery.last_status is None else str(delivery.last_status)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(BookAdmin):
    list_display = [
        time_column("created_at", "Time"),
        id_column("message_id", "Message"),
        text_column("endpoint__workspace__name", "Workspace"),
        id_column("kind", "Kind"),
        state_column("state", "State"),
        figure_column("attempts", "Tries"),
        _answer,
        time_column("next_at", "Next try"),
    ]
    list_select_related = ["endpoint__workspace"]
    list_filter = [
        ("state", ChoicesDropdownFilter),
        ("endpoint__workspace", AutocompleteSelectFilter),
        ("created_at", RangeDateTimeFilter),
    ]
    exact_fields = ("message_id", "public_id", "endpoint__public_id", "endpoint__workspace__public_id")
    search_help_text = "The id of a message, a webhook or a workspace, whole"
    fields = [
        *("message_id", "workspace", "webhook", "notice", "kind", state_column("state", "State"), "attempts"),
        *("last_status", "last_error", time_column("last_at", "Last try"), time_column("next_at", "Next try")),
        *(time_column("created_at", "Time"), "sent", "public_id"),
    ]
    readonly_fields = fields
    actions_detail = ["send_again"]
    has_send_again_permission = granted_by("billing.resend_webhookdelivery")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        queryset: QuerySet[WebhookDelivery] = super().get_queryset(request)
        return queryset.select_related("endpoint__workspace").defer("endpoint__secret")

    @admin.display(description="Webhook")
    def webhook(self, delivery: WebhookDelivery) -> str:
        return link("admin:billing_webhookendpoint_change", delivery.endpoint_id, delivery.endpoint.public_id)

    @admin.display(description="Workspace")
    def workspace(self, delivery: WebhookDelivery) -> str:
        workspace = delivery.endpoint.workspace
        return link("admin:billing_workspace_change", workspace.pk, workspace.name)

    @admin.display(description="Notice")
    def notice(self, delivery: WebhookDelivery) -> str:
        """A test tells of none, and notices are kept for other spans than messages."""
        notice = Notice.objects.filter(public_id=delivery.message_id).first()
        return "-" if notice is None else link("admin:billing_notice_change", notice.pk, notice.title)

    @admin.display(description="Body")
    def sent(self, delivery: WebhookDelivery) -> str:
        try:
            return written(json.dumps(json.loads(delivery.body), ensure_ascii=False, indent=2))
        except ValueError:
            return written(delivery.body)

    @action(description="Send again", icon="replay", permissions=["send_again"], variant=ActionVariant.PRIMARY)
    def send_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        delivery = get_object_or_404(WebhookDelivery.objects.select_related("endpoint__workspace"), pk=object_id)
        form = forms.Form(request.POST if request.method == "POST" else None)
        if form.is_valid():
            if deliveries.send_again(delivery, actor=actor_of(request)):
                messages.success(request, f"{delivery.message_id} is sent again.")
                return HttpResponseRedirect(reverse("admin:billing_webhookdelivery_change", args=[delivery.pk]))
            form.add_error(None, "Only what failed is sent again, and not to a webhook that is disabled or removed.")
        note = (
            f"The message failed after {delivery.attempts} tries. It goes to {delivery.endpoint.workspace.name} once more, with "
            "the same id and body, and is tried for most of a day again."
        )
        return form_page(self, request, form, title=f"Send again: {delivery.message_id}", button="Send again", note=note)
