"""What staff tell people in the console, and who has put it away."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone
from simple_history.models import HistoricalRecords

from billing.models.keys import QuotaPreset
from billing.models.workspaces import Workspace
from infery_site.ids import public_id


def new_announcement_id() -> str:
    return public_id("ann")


class Announcement(models.Model):
    """Plain text for an audience and a time. `billing.announcements` says who sees it."""

    class Severity(models.TextChoices):
        INFO = "info", "For information"
        WARNING = "warning", "Warning"
        CRITICAL = "critical", "Critical"

    class Audience(models.TextChoices):
        ALL = "all", "Everybody"
        PLAN = "plan", "Workspaces of one plan"
        WORKSPACE = "workspace", "One workspace"

    public_id = models.CharField(max_length=40, unique=True, default=new_announcement_id, editable=False)
    text = models.CharField(max_length=1000)
    severity = models.CharField(max_length=8, choices=Severity.choices, default=Severity.INFO)
    audience = models.CharField(max_length=9, choices=Audience.choices, default=Audience.ALL)
    plan = models.ForeignKey(QuotaPreset, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    starts_at = models.DateTimeField("from", default=timezone.now)
    ends_at = models.DateTimeField("until", null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    history = HistoricalRecords()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(severity__in=["info", "warning", "critical"]), name="announcement_severity_is_known"
            ),
            models.CheckConstraint(
                condition=models.Q(audience="all", plan__isnull=True, workspace__isnull=True)
                | models.Q(audience="plan", plan__isnull=False, workspace__isnull=True)
                | models.Q(audience="workspace", plan__isnull=True, workspace__isnull=False),
                name="announcement_has_its_audience",
            ),
            models.CheckConstraint(
                condition=models.Q(ends_at__isnull=True) | models.Q(ends_at__gte=models.F("starts_at")),
                name="announcement_ends_after_its_start",
            ),
        ]

    def __str__(self) -> str:
        return self.text if len(self.text) <= 60 else f"{self.text[:57]}..."


class Dismissal(models.Model):
    """One person has read one announcement and put it away, in all workspaces."""

    announcement = models.ForeignKey(Announcement, on_delete=models.CASCADE, related_name="dismissals")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["announcement", "user"], name="dismissal_is_one_per_person")]

    def __str__(self) -> str:
        return f"{self.user} of {self.announcement_id}"
