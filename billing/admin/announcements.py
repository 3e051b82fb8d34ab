"""Announcements in the staff admin: written, changed and ended by those whose role has it, with every version kept."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Model, Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from billing import announcements
from billing.admin.columns import badge, time_column
from billing.admin.parts import EditedOnly, VersionsKept, WorkspaceField, actor_of, form_page, granted_by
from billing.models import Announcement, QuotaPreset

LOOKS = {"info": ("info", "info"), "warning": ("warn", "warning"), "critical": ("bad", "error")}
"""Kind and icon of each severity."""


class AnnouncementForm(EditedOnly, forms.ModelForm):  # type: ignore[type-arg]
    text = forms.CharField(
        max_length=1000, widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}), help_text="Plain text, shown as it stands."
    )
    plan = forms.ModelChoiceField(
        QuotaPreset.objects.none(), required=False, widget=UnfoldAdminSelectWidget, help_text="Where the audience is a plan."
    )
    workspace = WorkspaceField(required=False, help_text="Where it is one workspace: its id, or a name that only one has.")

    class Meta:
        model = Announcement
        fields = ["text", "severity", "audience", "plan", "workspace", "starts_at", "ends_at"]
        help_texts = {"starts_at": "UTC.", "ends_at": "UTC; empty until you end it."}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The plan it is for is offered too where nobody has that any more.
        offered = Q(workspace__isnull=True) | Q(workspaces__isnull=False) | Q(pk=self.instance.plan_id)
        plans = QuotaPreset.objects.filter(offered).distinct().order_by("name")
        self.fields["plan"].queryset = plans  # type: ignore[attr-defined]
        if self.instance.workspace is not None:
            self.initial["workspace"] = self.instance.workspace.public_id

    def clean_text(self) -> str:
        return announcements.checked_text(self.cleaned_data["text"])

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        audience = values.get("audience")
        for name in ("plan", "workspace"):
            if audience != name:
                values[name] = None
            elif values.get(name) is None and name not in self.errors:
                raise ValidationError({name: "Say which one."})
        starts_at, ends_at = values.get("starts_at"), values.get("ends_at")
        if starts_at and ends_at and ends_at < starts_at:
            raise ValidationError({"ends_at": "It ends before it begins."})
        return values


@admin.register(Announcement)
class AnnouncementAdmin(VersionsKept, ModelAdmin):
    form = AnnouncementForm
    list_display = ["__str__", "grave", "whom", time_column("starts_at", "From"), time_column("ends_at", "Until"), "state"]
    list_select_related = ["plan", "workspace"]
    list_filter = [("severity", ChoicesDropdownFilter), ("audience", ChoicesDropdownFilter)]
    list_filter_submit = True
    search_fields = ["text", "=public_id"]
    ordering = ["-starts_at", "-pk"]
    fieldsets = [
        (None, {"fields": ["text", "severity"]}),
        ("For whom", {"fields": ["audience", "plan", "workspace"]}),
        ("When", {"fields": ["starts_at", "ends_at"]}),
    ]
    compressed_fields = True
    warn_unsaved_form = True
    actions = None
    actions_detail = ["end"]
    has_end_permission = granted_by("billing.change_announcement")

    @action(description="End", icon="event_busy", permissions=["end"], variant=ActionVariant.DANGER)
    def end(self, request: HttpRequest, object_id: str) -> HttpResponse:
        announcement = get_object_or_404(Announcement.objects.select_related("workspace"), pk=object_id)
        form = forms.Form(request.POST if request.method == "POST" else None)
        if form.is_valid():
            announcements.end(announcement, timezone.now(), actor=actor_of(request))
            messages.success(request, "The announcement is over.")
            return HttpResponseRedirect(reverse("admin:billing_announcement_change", args=[announcement.pk]))
        note = f"Nobody sees it any more from now on: {announcement}"
        return form_page(self, request, form, title="End an announcement", button="End now", note=note)

    @admin.display(description="Severity", ordering="severity")
    def grave(self, announcement: Announcement) -> str:
        return badge("", announcement.get_severity_display(), LOOKS[announcement.severity])

    @admin.display(description="For")
    def whom(self, announcement: Announcement) -> str:
        return str(announcement.plan or announcement.workspace or "Everybody")

    @admin.display(description="State")
    def state(self, announcement: Announcement) -> str:
        now = timezone.now()
        if announcement.ends_at is not None and announcement.ends_at <= now:
            return badge("over", None, ("none", "remove"))
        is_coming = announcement.starts_at > now
        return badge("", "Scheduled", ("info", "schedule")) if is_coming else badge("", "Shown", ("plain", "check"))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """What people have read is ended, and stays."""
        return False

    def save_model(self, request: HttpRequest, obj: Announcement, form: Any, change: bool) -> None:  # noqa: FBT001
        if form.changed_data or not change:
            announcements.publish(obj, actor=actor_of(request))
