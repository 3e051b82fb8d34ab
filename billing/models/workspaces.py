"""A workspace: the customer, and the owner of keys, credits and files; and who of the people belongs to it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from infery_site.ids import public_id

MOST_TRACE_DAYS = 30
"""How long anybody keeps how a request went; a workspace may keep it for less."""


def new_workspace_id() -> str:
    return public_id("ws")


def new_member_id() -> str:
    return public_id("mem")


def new_invitation_id() -> str:
    return public_id("inv")


class Workspace(models.Model):
    """Keys work in an active one alone. Its members stop and close it, staff suspend it; a closed one keeps its rows.

    `traces_kept_days` is how long it is kept how requests went; up to `traces_purged_until` that is gone already.
    """

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        STOPPED = "stopped", "Stopped"
        SUSPENDED = "suspended", "Suspended"
        CLOSED = "closed", "Closed"

    public_id = models.CharField(max_length=40, unique=True, default=new_workspace_id, editable=False)
    name = models.CharField(max_length=120)
    state = models.CharField(max_length=12, choices=State.choices, default=State.ACTIVE)
    plan = models.ForeignKey("billing.QuotaPreset", on_delete=models.PROTECT, null=True, blank=True, related_name="workspaces")
    renewal_day = models.PositiveSmallIntegerField(
        null=True, blank=True, editable=False, help_text="Day of the month on which the plan's credits come, in UTC."
    )
    plan_renews_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When the plan's credits come next; empty if they never came."
    )
    traces_kept_days = models.PositiveSmallIntegerField(default=MOST_TRACE_DAYS, db_default=MOST_TRACE_DAYS, editable=False)
    traces_purged_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        permissions = [
            ("suspend_workspace", "Can suspend and activate workspaces, and limit their spending"),
            ("plan_workspace", "Can give a workspace its plan"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state__in=["active", "stopped", "suspended", "closed"]), name="workspace_state_is_known"
            ),
            models.CheckConstraint(
                condition=models.Q(traces_kept_days__gte=1, traces_kept_days__lte=MOST_TRACE_DAYS),
                name="workspace_keeps_traces_for_days",
            ),
        ]
        indexes = [
            models.Index(fields=["plan_renews_at"], condition=models.Q(plan__isnull=False), name="workspace_by_renewal"),
        ]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A person in a workspace. One that ended keeps its row, because keys and usage go on naming it."""

    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        ADMIN = "admin", "Admin"
        DEVELOPER = "developer", "Developer"
        BILLING = "billing", "Billing"
        VIEWER = "viewer", "Viewer"

    public_id = models.CharField(max_length=40, unique=True, default=new_member_id, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role.choices)
    preset = models.ForeignKey(
        "billing.QuotaPreset", on_delete=models.PROTECT, null=True, blank=True, related_name="memberships"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    removed_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(role__in=["owner", "admin", "developer", "billing", "viewer"]),
                name="membership_role_is_known",
            ),
            models.UniqueConstraint(
                fields=["workspace", "user"], condition=models.Q(removed_at__isnull=True), name="membership_is_one_per_person"
            ),
            models.UniqueConstraint(
                fields=["workspace"], condition=models.Q(role="owner"), name="membership_of_owner_is_one_per_workspace"
            ),
            models.CheckConstraint(
                condition=~models.Q(role="owner") | models.Q(removed_at__isnull=True), name="membership_of_owner_does_not_end"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class Invitation(models.Model):
    """A role that is offered to whoever proves to have a mail address; open until it is accepted, withdrawn or over."""

    public_id = models.CharField(max_length=40, unique=True, default=new_invitation_id, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="invitations")
    email = models.EmailField(help_text="In lower case.")
    role = models.CharField(max_length=12, choices=[choice for choice in Membership.Role.choices if choice[0] != "owner"])
    invited_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True, editable=False)
    withdrawn_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(role__in=["admin", "developer", "billing", "viewer"]), name="invitation_role_is_known"
            ),
            models.CheckConstraint(
                condition=models.Q(accepted_at__isnull=True) | models.Q(withdrawn_at__isnull=True),
                name="invitation_ends_in_one_way",
            ),
            models.UniqueConstraint(
                fields=["workspace", "email"],
                condition=models.Q(accepted_at__isnull=True, withdrawn_at__isnull=True),
                name="invitation_is_one_per_address",
            ),
        ]
        indexes = [
            models.Index(
                fields=["email"],
                condition=models.Q(accepted_at__isnull=True, withdrawn_at__isnull=True),
                name="invitation_open_by_address",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email} ({self.role})"
