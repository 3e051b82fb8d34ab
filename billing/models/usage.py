"""What each authenticated request used and cost (kept with the money), and how it went (kept 30 days)."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from billing.models.fields import MicrocreditsField, money_rules
from billing.models.keys import ApiKey
from billing.models.workspaces import Workspace


class UsageRecord(models.Model):
    generation = models.CharField(max_length=64, unique=True)
    request_id = models.CharField(max_length=128, help_text="The label of the request; not unique.")
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="usage_records", db_index=False)
    api_key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="usage_records", db_index=False)
    created_at = models.DateTimeField(default=timezone.now)
    model_asked = models.CharField(max_length=256, blank=True, default="")
    model_used = models.CharField(max_length=128, blank=True, default="")
    provider = models.CharField(max_length=64, blank=True, default="")
    price_version_id = models.BigIntegerField(null=True, blank=True)
    prompt_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    audio_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    usage_source = models.CharField(max_length=12, blank=True, default="", help_text="reported, estimated, or empty.")
    charged_microcredits = MicrocreditsField(default=0)
    overrun_microcredits = MicrocreditsField(default=0)
    lines = models.JSONField(default=list, help_text="The receipt: kind, quantity, unit, unit price, amount.")
    is_stream = models.BooleanField(default=False)
    status = models.PositiveSmallIntegerField(help_text="HTTP status of the answer.")
    end_state = models.CharField(max_length=24, help_text="The one declared way in which the request ended.")
    error_code = models.CharField(max_length=64, blank=True, default="")
    finish_reason = models.CharField(max_length=24, blank=True, default="")
    fallback_depth = models.PositiveSmallIntegerField(default=0)
    latency_ms = models.PositiveIntegerField(default=0)
    first_token_ms = models.PositiveIntegerField(null=True, blank=True)
    # By the database too: a process of the version before writes records until it is gone.
    end_user = models.CharField(
        max_length=128, blank=True, default="", db_default="", help_text="The caller's own user, as the request names him."
    )

    class Meta:
        verbose_name = "request"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(charged_microcredits__gte=0, overrun_microcredits__gte=0),
                name="usage_record_charge_is_not_negative",
            ),
            models.CheckConstraint(
                condition=models.Q(status__lt=400) | models.Q(charged_microcredits=0), name="usage_record_of_an_error_is_free"
            ),
            *money_rules("usage_record", "charged_microcredits", "overrun_microcredits"),
        ]
        indexes = [
            models.Index(fields=["created_at"], name="usage_by_time"),
            models.Index(fields=["workspace", "created_at"], name="usage_by_workspace"),
            models.Index(fields=["api_key", "created_at"], name="usage_by_key"),
            models.Index(fields=["request_id", "workspace", "created_at"], name="usage_by_label"),
            models.Index(fields=["workspace", "model_used", "created_at"], name="usage_by_model"),
            # Few requests are in these, so a good one costs nothing for them.
            models.Index(fields=["workspace", "created_at"], condition=models.Q(status__gte=400), name="usage_failed"),
            models.Index(fields=["workspace", "created_at"], condition=models.Q(fallback_depth__gt=0), name="usage_fallback"),
            models.Index(
                fields=["workspace", "model_asked", "created_at"],
                condition=~models.Q(model_asked=models.F("model_used")),
                name="usage_by_other_model",
            ),
        ]

    def __str__(self) -> str:
        return self.generation


class RequestTrace(models.Model):
    generation = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    attempts = models.JSONField(default=list)
    adaptations = models.JSONField(default=list)
    timings_ms = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.generation
