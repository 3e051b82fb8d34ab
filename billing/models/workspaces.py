"""A workspace: the customer, and the owner of keys, credits and files."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from infery_site.ids import public_id


def new_workspace_id() -> str:
    return public_id("ws")


class Workspace(models.Model):
    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        SUSPENDED = "suspended", "Suspended"

    public_id = models.CharField(max_length=40, unique=True, default=new_workspace_id, editable=False)
    name = models.CharField(max_length=120)
    state = models.CharField(max_length=12, choices=State.choices, default=State.ACTIVE)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(state__in=["active", "suspended"]), name="workspace_state_is_known"),
        ]

    def __str__(self) -> str:
        return self.name
