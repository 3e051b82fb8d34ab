"""Notices in the staff admin, to read: what each workspace was told, whether by mail, by webhooks or by both."""

from __future__ import annotations

import json

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, RangeDateTimeFilter
from unfold.decorators import action

from billing.admin.columns import id_column, text_column, time_column, written
from billing.admin.lists import BookAdmin
from billing.admin.parts import granted_by
from billing.models import Membership, Notice


@admin.register(Notice)
class NoticeAdmin(BookAdmin):
    list_display = [
        time_column("created_at", "Time"),
        id_column("public_id", "Message"),
        text_column("workspace__name", "Workspace"),
        text_column("get_kind_display", "Kind"),
        text_column("title", "Told"),
        time_column("spread_at", "Given away"),
    ]
    list_select_related = ["workspace"]
    list_filter = [
        ("kind", ChoicesDropdownFilter),
        ("workspace", AutocompleteSelectFilter),
        ("created_at", RangeDateTimeFilter),
        ("spread_at", admin.EmptyFieldListFilter),
    ]
    exact_fields = ("public_id", "workspace__public_id")
    search_help_text = "The id of a message or of a workspace, whole"
    fields = [
        *("public_id", "workspace", "kind", "title", "text", "about", "what", "place"),
        *(time_column("created_at", "Time"), time_column("spread_at", "Given to mail and webhooks")),
    ]
    readonly_fields = fields
    actions_detail = ["its_messages"]
    has_read_messages_permission = granted_by("billing.view_webhookdelivery")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notice]:
        queryset: QuerySet[Notice] = super().get_queryset(request)
        return queryset.select_related("workspace")

    @admin.display(description="Member it is about")
    def about(self, notice: Notice) -> str:
        if notice.owner_id is None:
            return "-"
        member = Membership.objects.select_related("user", "workspace").filter(pk=notice.owner_id).first()
        return "-" if member is None else str(member)

    @admin.display(description="For programs")
    def what(self, notice: Notice) -> str:
        return written(json.dumps(notice.data, ensure_ascii=False, indent=2))

    @action(description="Webhook messages of it", icon="outbox", permissions=["read_messages"])
    def its_messages(self, request: HttpRequest, object_id: str) -> HttpResponse:
        notice = get_object_or_404(Notice, pk=object_id)
        return HttpResponseRedirect(f"{reverse('admin:billing_webhookdelivery_changelist')}?q={notice.public_id}")
