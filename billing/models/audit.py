"""Who changed what: one row per administrative act, never edited."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class AuditEvent(models.Model):
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    actor = models.CharField(max_length=160, help_text="A person's user name, or the command that acted.")
    action = models.CharField(max_length=64, help_text="Such as `api_key.created`.")
    workspace = models.ForeignKey("billing.Workspace", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    target = models.CharField(max_length=160, blank=True, default="")
    reason = models.CharField(max_length=500, blank=True, default="")
    details = models.JSONField(default=dict)

    class Meta:
        indexes = [
            models.Index(fields=["workspace", "id"], name="audit_event_by_workspace"),
            models.Index(fields=["action", "created_at"], name="audit_event_by_action"),
            models.Index(fields=["actor", "created_at"], name="audit_event_by_actor"),
            models.Index(fields=["target"], name="audit_event_by_target"),
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.actor}"
