"""Answers kept for 24 h so that a repeated request with the same Idempotency-Key costs nothing."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from billing.models.workspaces import Workspace


class IdempotentReply(models.Model):
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    key_digest = models.CharField(max_length=64, help_text="SHA-256 of route and Idempotency-Key, in hex.")
    body_digest = models.CharField(max_length=64, help_text="SHA-256 of the raw request body, in hex.")
    lease_token = models.CharField(max_length=40, help_text="Who is running the first request.")
    lease_expires_at = models.DateTimeField()
    generation = models.CharField(max_length=64, blank=True, default="", help_text="What the first request may be charged as.")
    is_complete = models.BooleanField(default=False)
    status = models.PositiveSmallIntegerField(default=0)
    headers = models.JSONField(default=list)
    body_encrypted = models.BinaryField(default=bytes)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        verbose_name_plural = "idempotent replies"
        constraints = [
            models.UniqueConstraint(fields=["workspace", "key_digest"], name="idempotent_reply_is_one_per_key"),
        ]

    def __str__(self) -> str:
        return self.key_digest[:12]
