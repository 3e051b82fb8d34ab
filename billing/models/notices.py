"""What a workspace is told: notices, the terms on which it wants to be told, and what it was told last."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from billing.models.workspaces import Workspace
from infery_site.ids import public_id


def new_notice_id() -> str:
    return public_id("msg")


class Notice(models.Model):
    """One thing that happened, for people by mail and for programs. `billing.notices` adds it, `billing.alerts` spreads it."""

    class Kind(models.TextChoices):
        CREDITS_LOW = "credits.low", "Low balance"
        CREDITS_EXPIRING = "credits.expiring", "Credit about to expire"
        CREDITS_ADDED = "credits.added", "Credit added"
        PAYMENT_FAILED = "payment.failed", "Payment failed"
        BUDGET_REACHED = "budget.reached", "Budget at a share of its limit"
        KEY_LIMIT = "key.limit", "Key at a share of its limit"
        QUOTA_REACHED = "quota.reached", "File quota at a share"
        FALLBACK_RATE = "fallback.rate", "Many answers by fallbacks"
        MODEL_DEPRECATED = "model.deprecated", "Deprecated model in use"
        KEY_CREATED = "key.created", "Key made"
        KEY_REVOKED = "key.revoked", "Key revoked"
        WEBHOOK_DISABLED = "webhook.disabled", "Webhook disabled"

    public_id = models.CharField(max_length=40, unique=True, default=new_notice_id, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="notices", db_index=False)
    kind = models.CharField(max_length=24, choices=Kind.choices)
    title = models.CharField(max_length=200)
    text = models.TextField()
    data = models.JSONField(default=dict)
    place = models.CharField(max_length=80, blank=True, default="", help_text="The page of the workspace that shows more.")
    owner_id = models.BigIntegerField(null=True, help_text="Row id of the member whose key or budget it is about.")
    created_at = models.DateTimeField(default=timezone.now)
    spread_at = models.DateTimeField(null=True, help_text="When it was given to mail and webhooks.")

    class Meta:
        indexes = [
            models.Index(fields=["workspace", "-id"], name="notice_by_workspace"),
            models.Index(fields=["id"], condition=models.Q(spread_at__isnull=True), name="notice_to_spread"),
            models.Index(fields=["created_at"], name="notice_by_time"),
            models.Index(fields=["kind", "created_at"], name="notice_by_kind"),
        ]

    def __str__(self) -> str:
        return self.title


class AlertTerms(models.Model):
    """What a workspace wants to be told, and who; `billing.alerts.terms` has the defaults of one without a row."""

    workspace = models.OneToOneField(Workspace, on_delete=models.PROTECT, related_name="alert_terms")
    low_balances = models.JSONField(default=list, help_text="Microcredits.")
    key_percents = models.JSONField(default=list)
    budget_percents = models.JSONField(default=list)
    expiry_days = models.PositiveSmallIntegerField(default=0, help_text="How long before credit expires; 0 for not at all.")
    quota_percents = models.JSONField(null=True, help_text="Empty: what is usual.")
    fallback_percent = models.PositiveSmallIntegerField(null=True, help_text="0 for not at all; empty: what is usual.")
    recipients = models.JSONField(default=dict, help_text="Roles by kind of notice.")

    def __str__(self) -> str:
        return f"alerts of {self.workspace}"


class AlertBook(models.Model):
    """What a workspace was told last, by subject: whether it may be told again, and when it was told."""

    workspace = models.OneToOneField(Workspace, on_delete=models.PROTECT, related_name="alert_book")
    subjects = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"told to {self.workspace}"
