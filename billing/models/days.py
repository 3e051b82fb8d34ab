"""Requests added up by day (UTC), so that no page adds up a month of them: `billing.rollups` writes these rows.

They are figures to look at and never decide anything: each is the sum of usage records of a day that is over, and what
they add up to stands in those records.
"""

from __future__ import annotations

from django.db import models

from billing.models.keys import ApiKey
from billing.models.workspaces import Workspace


class DaySums(models.Model):
    """The requests of a workspace on one day that share what the subclass says. `first_token` sums are of those that had one."""

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+", db_index=False)
    day = models.DateField()
    requests = models.BigIntegerField()
    failed_requests = models.BigIntegerField()
    prompt_tokens = models.BigIntegerField()
    completion_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    audio_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    charged_microcredits = models.BigIntegerField()
    overrun_microcredits = models.BigIntegerField()
    first_token_sum_ms = models.BigIntegerField()
    first_token_count = models.BigIntegerField()

    class Meta:
        abstract = True


class UsageDay(DaySums):
    """By key and by the model that served; empty where none did."""

    api_key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="+", db_index=False)
    model_used = models.CharField(max_length=128, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "day", "api_key", "model_used"], name="usage_day_is_one"),
        ]
        indexes = [models.Index(fields=["day"], name="usage_day_by_day")]

    def __str__(self) -> str:
        return f"{self.workspace}, {self.day}"


class EndUserDay(DaySums):
    """By the caller's own user; empty where the request named none."""

    end_user = models.CharField(max_length=128, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "day", "end_user"], name="end_user_day_is_one")]

    def __str__(self) -> str:
        return f"{self.workspace}, {self.day}"
