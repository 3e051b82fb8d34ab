"""A file that a workspace uploaded. The row says what it is; its bytes are in the store, under a name of ours."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from billing.models import Workspace
from infery_site.ids import public_id


def new_file_id() -> str:
    return public_id("file")


class StoredFile(models.Model):
    """`pending` until all bytes are known to be in the store; `deleted` for good. A row outlives its bytes."""

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        READY = "ready", "Ready"
        DELETED = "deleted", "Deleted"

    class Purpose(models.TextChoices):
        ASSISTANTS = "assistants", "Assistants"
        VISION = "vision", "Vision"
        USER_DATA = "user_data", "User data"
        BATCH = "batch", "Batch"

    public_id = models.CharField(max_length=40, unique=True, default=new_file_id, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="files")
    state = models.CharField(max_length=12, choices=State.choices, default=State.PENDING)
    purpose = models.CharField(max_length=12, choices=Purpose.choices)
    filename = models.CharField(max_length=255, help_text="As the client named it: data, and never a path.")
    media_type = models.CharField(max_length=64, help_text="What the bytes are, whatever was said of them.")
    size_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    store_name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)
    destroyed_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="When the store had lost the bytes.")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(state__in=["pending", "ready", "deleted"]), name="file_state_is_known"),
            models.CheckConstraint(condition=models.Q(size_bytes__gt=0), name="file_is_not_empty"),
            models.CheckConstraint(
                condition=models.Q(state="deleted", deleted_at__isnull=False)
                | (~models.Q(state="deleted") & models.Q(deleted_at__isnull=True, destroyed_at__isnull=True)),
                name="file_is_destroyed_after_it_was_deleted",
            ),
        ]
        indexes = [
            models.Index(fields=["workspace", "id"], condition=models.Q(state="ready"), name="file_by_workspace"),
            models.Index(fields=["expires_at"], condition=models.Q(state="ready"), name="file_by_expiry"),
            models.Index(fields=["created_at"], condition=models.Q(state="pending"), name="file_by_start"),
            models.Index(
                fields=["deleted_at"],
                condition=models.Q(state="deleted", destroyed_at__isnull=True),
                name="file_by_deletion",
            ),
        ]

    def __str__(self) -> str:
        return self.public_id


class FileUsage(models.Model):
    """What the files of a workspace take up, the pending ones included. Every upload asks this row first, so quotas are exact."""

    workspace = models.OneToOneField(Workspace, on_delete=models.PROTECT, primary_key=True, related_name="+")
    files = models.BigIntegerField(default=0)
    stored_bytes = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(files__gte=0, stored_bytes__gte=0), name="file_usage_is_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.files} files, {self.stored_bytes} bytes"
