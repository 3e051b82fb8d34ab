"""Webhooks of a workspace, and the messages that went to them. `billing.webhooks` writes all rows here."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from billing.models.workspaces import Workspace
from infery_site.ids import public_id


def new_endpoint_id() -> str:
    return public_id("hook")


def new_delivery_id() -> str:
    return public_id("dlv")


class WebhookEndpoint(models.Model):
    public_id = models.CharField(max_length=40, unique=True, default=new_endpoint_id, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="webhooks")
    url = models.CharField(max_length=2000)
    kinds = models.JSONField(default=list, help_text="Kinds of notices it gets; empty for all.")
    secret = models.TextField(editable=False, help_text="Encrypted.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    failing_since = models.DateTimeField(null=True, editable=False, help_text="Since when no message has arrived.")
    disabled_at = models.DateTimeField(null=True, editable=False)
    disabled_because = models.TextField(blank=True, default="", db_default="", editable=False, help_text="For its workspace.")
    removed_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = "webhook"
        permissions = [("disable_webhookendpoint", "Can disable webhooks")]

    def __str__(self) -> str:
        return f"webhook {self.public_id}"


class WebhookDelivery(models.Model):
    """One message for one endpoint. `body` is what is sent, byte for byte, however often."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"

    public_id = models.CharField(max_length=40, unique=True, default=new_delivery_id, editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    message_id = models.CharField(max_length=40)
    kind = models.CharField(max_length=24)
    body = models.TextField()
    state = models.CharField(max_length=12, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    last_status = models.PositiveSmallIntegerField(null=True, help_text="Of the last answer; empty if there was none.")
    last_error = models.CharField(max_length=80, blank=True, default="")
    last_at = models.DateTimeField(null=True)
    next_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = "webhook message"
        permissions = [("resend_webhookdelivery", "Can send messages to webhooks again")]
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "message_id"], name="webhook_delivery_is_one_per_message"),
            models.CheckConstraint(
                condition=models.Q(state__in=["waiting", "delivered", "failed"]), name="webhook_delivery_state_is_known"
            ),
        ]
        indexes = [
            models.Index(fields=["endpoint", "-id"], name="webhook_delivery_log"),
            models.Index(fields=["created_at"], name="webhook_delivery_by_time"),
            models.Index(fields=["state", "created_at"], name="webhook_delivery_by_state"),
            models.Index(fields=["message_id"], name="webhook_delivery_by_message"),
        ]

    def __str__(self) -> str:
        return f"message {self.message_id}"
