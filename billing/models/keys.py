"""API keys, presets of limits, and budgets.

A key is stored as the SHA-256 of its text, with the few characters that let a person recognise it. The keys that rolling
made one of the other are a family: they share preset and budgets. A preset is a named set of limits for a workspace (its
plan), a member or a key; `billing.quotas` says which limit counts. A budget limits what a family of keys, a member or a
workspace may spend in a period; the ledger checks and moves it in the transaction of the hold.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Coalesce, Now
from django.utils import timezone
from simple_history.models import HistoricalRecords

from billing.models.fields import IsInteger, MicrocreditsField, OptionalMicrocreditsField, money_rules, positive_rules
from billing.models.workspaces import Membership, Workspace
from infery_site.ids import public_id


def every_model() -> list[str]:
    return ["*"]


def default_scopes() -> list[str]:
    return ["chat", "files:read", "files:write", "usage:read"]


def new_key_id() -> str:
    return public_id("key")


def new_preset_id() -> str:
    return public_id("preset")


def new_budget_id() -> str:
    return public_id("budget")


class QuotaPreset(models.Model):
    """Limits under a name, and for the plan of a workspace its monthly credits. A column that is null limits nothing."""

    public_id = models.CharField(max_length=40, unique=True, default=new_preset_id, editable=False)
    workspace = models.ForeignKey(
        Workspace,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="presets",
        help_text="Who may use it; empty for every workspace.",
    )
    name = models.CharField(max_length=120)
    allowed_models = models.JSONField(default=every_model, help_text='Model slugs, or ["*"] for every model.')
    max_requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    max_requests_daily = models.PositiveIntegerField(null=True, blank=True)
    max_tokens_per_minute = models.PositiveBigIntegerField(null=True, blank=True)
    max_tokens_daily = models.PositiveBigIntegerField(null=True, blank=True)
    max_concurrent_requests = models.PositiveIntegerField(null=True, blank=True)
    max_budget_monthly_microcredits = OptionalMicrocreditsField(null=True, blank=True, help_text="Of each key.")
    max_file_size_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    max_files_per_workspace = models.PositiveIntegerField(null=True, blank=True)
    max_storage_bytes_per_workspace = models.PositiveBigIntegerField(null=True, blank=True)
    monthly_microcredits = OptionalMicrocreditsField(
        null=True, blank=True, help_text="Given each month to a workspace whose plan this is."
    )
    has_rollover = models.BooleanField(default=False, help_text="What is left of a month may be spent in the next one too.")
    max_rollover_microcredits = OptionalMicrocreditsField(null=True, blank=True, help_text="At most so much of it.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    history = HistoricalRecords()

    class Meta:
        constraints = [
            *positive_rules(
                "quota_preset",
                "monthly_microcredits",
                "max_requests_per_minute",
                "max_requests_daily",
                "max_tokens_per_minute",
                "max_tokens_daily",
                "max_concurrent_requests",
            ),
            models.CheckConstraint(
                condition=models.Q(max_budget_monthly_microcredits__isnull=True)
                | models.Q(max_budget_monthly_microcredits__gte=0),
                name="quota_preset_budget_is_not_negative",
            ),
            models.CheckConstraint(
                condition=models.Q(max_rollover_microcredits__isnull=True)
                | models.Q(max_rollover_microcredits__gte=0, has_rollover=True),
                name="quota_preset_max_rollover_is_of_a_rollover",
            ),
            models.CheckConstraint(
                condition=models.Q(has_rollover=False) | models.Q(monthly_microcredits__isnull=False),
                name="quota_preset_rollover_is_of_monthly_credits",
            ),
            *money_rules(
                "quota_preset", "max_budget_monthly_microcredits", "monthly_microcredits", "max_rollover_microcredits"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    public_id = models.CharField(max_length=40, unique=True, default=new_key_id, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="api_keys")
    owner = models.ForeignKey(
        Membership,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="api_keys",
        help_text="The member whose key it is; empty for one that commands or staff made.",
    )
    family = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        help_text="The first of the keys that rolling made one of the other; empty for that one itself.",
    )
    preset = models.ForeignKey(QuotaPreset, on_delete=models.PROTECT, null=True, blank=True, related_name="api_keys")
    name = models.CharField(max_length=120)
    digest = models.CharField(max_length=64, unique=True, editable=False, help_text="SHA-256 of the key, in hex.")
    hint = models.CharField(max_length=16, editable=False, help_text="First and last characters, to recognise the key.")
    scopes = models.JSONField(default=default_scopes)
    allowed_models = models.JSONField(default=every_model, help_text='Model slugs, or ["*"] for every model.')
    allowed_addresses = models.JSONField(default=list, blank=True, help_text="Addresses or networks; empty for any.")
    is_playground = models.BooleanField(
        default=False, db_default=False, editable=False, help_text="What its owner does in the console is booked on it."
    )
    max_requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    max_requests_daily = models.PositiveIntegerField(null=True, blank=True)
    max_tokens_per_minute = models.PositiveBigIntegerField(null=True, blank=True)
    max_tokens_daily = models.PositiveBigIntegerField(null=True, blank=True)
    max_concurrent_requests = models.PositiveIntegerField(null=True, blank=True)
    max_budget_monthly_microcredits = OptionalMicrocreditsField(null=True, blank=True)
    ceilings = models.JSONField(
        null=True, blank=True, editable=False, help_text="Limits, by column, that its owner may only make tighter."
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "API key"
        permissions = [("revoke_apikey", "Can revoke API keys")]
        constraints = [
            models.CheckConstraint(condition=models.Q(digest__regex=r"^[0-9a-f]{64}$"), name="api_key_digest_is_sha256"),
            models.CheckConstraint(
                condition=models.Q(max_requests_per_minute__isnull=True) | models.Q(max_requests_per_minute__gt=0),
                name="api_key_requests_limit_is_positive",
            ),
            models.CheckConstraint(
                condition=models.Q(max_concurrent_requests__isnull=True) | models.Q(max_concurrent_requests__gt=0),
                name="api_key_concurrency_limit_is_positive",
            ),
            *positive_rules("api_key", "max_requests_daily", "max_tokens_per_minute", "max_tokens_daily"),
            models.CheckConstraint(
                condition=models.Q(max_budget_monthly_microcredits__isnull=True)
                | models.Q(max_budget_monthly_microcredits__gte=0),
                name="api_key_budget_is_not_negative",
            ),
            models.UniqueConstraint(
                fields=["owner"],
                condition=models.Q(is_playground=True, revoked_at__isnull=True),
                name="api_key_of_playground_is_one_per_member",
            ),
            *money_rules("api_key", "max_budget_monthly_microcredits"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint})"

    @property
    def first_id(self) -> int:
        """Row id of the first key of the family, whose budgets this key spends."""
        return self.family_id or self.pk


# The same in a query of keys.
FIRST_ID = Coalesce("family_id", "id")


class _InForce(models.Manager["Budget"]):
    def get_queryset(self) -> models.QuerySet[Budget]:
        return super().get_queryset().filter(is_lifted=False)


class Budget(models.Model):
    """`spent` and `held` belong to the period that began at `period_started_at`; a later hold or settle rolls it over.

    What was spent in all periods before is kept in `spent_before`, so that the two are what the holds of this budget paid,
    whatever the clock did when a period began. The clock is the database's, as of everything that the ledger times.

    The ceiling of a key's binds its owner, that of a workspace's is what staff set and binds whoever belongs to it.

    One that is lifted limits nothing (its limit is the most there can be) but goes on counting, so that to take a limit away
    and set it again does not begin anew. `objects` are those in force, `every` is all of them.
    """

    class Scope(models.TextChoices):
        KEY = "key", "Key"
        MEMBER = "member", "Member"
        WORKSPACE = "workspace", "Workspace"

    class Period(models.TextChoices):
        DAY = "day", "Day"
        WEEK = "week", "Week"
        MONTH = "month", "Month"
        NEVER = "never", "Never"

    public_id = models.CharField(max_length=40, unique=True, default=new_budget_id, editable=False)
    scope = models.CharField(max_length=12, choices=Scope.choices)
    scope_id = models.BigIntegerField(help_text="Row id of the first key of a family, the member or the workspace.")
    period = models.CharField(max_length=8, choices=Period.choices, default=Period.MONTH)
    limit_microcredits = MicrocreditsField()
    ceiling_microcredits = OptionalMicrocreditsField(
        null=True, blank=True, editable=False, help_text="Who may act on his own keys only may not set a limit above it."
    )
    is_lifted = models.BooleanField(default=False, db_default=False, editable=False)
    spent_microcredits = MicrocreditsField(default=0, editable=False)
    held_microcredits = MicrocreditsField(default=0, editable=False)
    spent_before_microcredits = MicrocreditsField(default=0, db_default=0, editable=False)
    period_started_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = _InForce()
    every = models.Manager["Budget"]()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["scope", "scope_id", "period"], name="budget_is_one_per_scope_and_period"),
            models.CheckConstraint(condition=models.Q(scope__in=["key", "member", "workspace"]), name="budget_scope_is_known"),
            models.CheckConstraint(
                condition=models.Q(period__in=["day", "week", "month", "never"]), name="budget_period_is_known"
            ),
            models.CheckConstraint(
                condition=models.Q(limit_microcredits__gte=0, spent_microcredits__gte=0, held_microcredits__gte=0),
                name="budget_amounts_are_not_negative",
            ),
            # The sum of years may well be more than a balance can be.
            models.CheckConstraint(
                condition=IsInteger("spent_before_microcredits") & models.Q(spent_before_microcredits__gte=0),
                name="budget_spent_before_is_a_sum",
            ),
            *money_rules("budget", "limit_microcredits", "spent_microcredits", "held_microcredits", "ceiling_microcredits"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.scope_id} per {self.period}"

    @property
    def staff_limit_microcredits(self) -> int | None:
        """What staff let the workspace spend at most; None where they said nothing."""
        return self.ceiling_microcredits if self.scope == self.Scope.WORKSPACE else None
