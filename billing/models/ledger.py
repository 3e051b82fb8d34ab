"""The ledger: accounts, holds, entries, lots. `billing.ledger` is the only writer; `ledger/triggers.py` guards the rows.

`posted` and `held` are cached for workspace accounts only; the balance of `world`, `revenue` and `promo` is computed
from entries, so that no request updates a row that all requests share. No request updates a lot either: what a lot has
left is brought up to date when credit is moved, and `lots_as_of_entry` of its account says up to which entry it is.
"""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from billing.models.fields import MicrocreditsField, money_rules, one_of
from billing.models.keys import ApiKey
from billing.models.workspaces import Workspace


class Account(models.Model):
    class Kind(models.TextChoices):
        WORKSPACE = "workspace", "Workspace"
        WORLD = "world", "World"
        REVENUE = "revenue", "Revenue"
        PROMO = "promo", "Promo"

    kind = models.CharField(max_length=12, choices=Kind.choices)
    workspace = models.OneToOneField(Workspace, on_delete=models.PROTECT, null=True, blank=True, related_name="account")
    posted_microcredits = MicrocreditsField(default=0)
    held_microcredits = MicrocreditsField(default=0)
    lots_as_of_entry = models.BigIntegerField(
        default=0, editable=False, help_text="Id of the newest entry that what is left of the lots shows."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(kind="workspace", workspace__isnull=False)
                | models.Q(kind__in=["world", "revenue", "promo"], workspace__isnull=True),
                name="account_kind_is_known",
            ),
            models.UniqueConstraint(
                fields=["kind"], condition=models.Q(workspace__isnull=True), name="account_is_one_per_internal_kind"
            ),
            models.CheckConstraint(condition=models.Q(held_microcredits__gte=0), name="account_held_is_not_negative"),
            models.CheckConstraint(
                condition=models.Q(posted_microcredits__gte=models.F("held_microcredits")), name="account_has_no_overdraft"
            ),
            models.CheckConstraint(
                condition=models.Q(kind="workspace") | models.Q(posted_microcredits=0, held_microcredits=0),
                name="account_caches_workspaces_only",
            ),
            *money_rules("account", "posted_microcredits", "held_microcredits"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.workspace}" if self.workspace_id else self.kind


class Hold(models.Model):
    class State(models.TextChoices):
        OPEN = "open", "Open"
        SETTLED = "settled", "Settled"
        VOIDED = "voided", "Voided"
        EXPIRED = "expired", "Expired"

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="holds", db_index=False)
    api_key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="holds", db_index=False)
    generation = models.CharField(max_length=64)
    sequence = models.PositiveIntegerField()
    amount_microcredits = MicrocreditsField()
    settled_microcredits = MicrocreditsField(default=0)
    overrun_microcredits = MicrocreditsField(default=0)
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    usage_source = models.CharField(max_length=12, blank=True, default="")
    price_version_id = models.BigIntegerField()
    budget_ids = models.JSONField(default=list, help_text="Budgets whose `held` carries this hold.")
    created_at = models.DateTimeField(default=timezone.now)
    lease_expires_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["generation", "sequence"], name="hold_is_one_per_generation_and_sequence"),
            models.CheckConstraint(condition=models.Q(amount_microcredits__gt=0), name="hold_amount_is_positive"),
            models.CheckConstraint(
                condition=one_of("state", ["open", "settled", "voided", "expired"]), name="hold_state_is_known"
            ),
            models.CheckConstraint(
                condition=models.Q(
                    settled_microcredits__gte=0,
                    settled_microcredits__lte=models.F("amount_microcredits"),
                    overrun_microcredits__gte=0,
                ),
                name="hold_settles_within_its_amount",
            ),
            models.CheckConstraint(
                condition=models.Q(state="settled", settled_microcredits__gt=0)
                | (~models.Q(state="settled") & models.Q(settled_microcredits=0)),
                name="hold_pays_only_when_settled",
            ),
            models.CheckConstraint(
                condition=models.Q(state="open", closed_at__isnull=True)
                | (~models.Q(state="open") & models.Q(closed_at__isnull=False)),
                name="hold_is_closed_with_a_time",
            ),
            *money_rules("hold", "amount_microcredits", "settled_microcredits", "overrun_microcredits"),
        ]
        indexes = [
            models.Index(fields=["lease_expires_at"], condition=models.Q(state="open"), name="hold_open_by_lease"),
            models.Index(fields=["account"], condition=models.Q(state="open"), name="hold_open_by_account"),
            models.Index(fields=["account", "created_at"], name="hold_by_account"),
            models.Index(fields=["created_at"], name="hold_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.generation}/{self.sequence}"


class Entry(models.Model):
    class Kind(models.TextChoices):
        USAGE = "usage", "Usage"
        TOP_UP = "top_up", "Top-up"
        GRANT = "grant", "Grant"
        PLAN = "plan", "Plan credits"
        REFUND = "refund", "Refund"
        ADJUSTMENT = "adjustment", "Adjustment"
        EXPIRY = "expiry", "Expiry"

    debit_account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="debits", db_index=False)
    credit_account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="credits", db_index=False)
    amount_microcredits = MicrocreditsField()
    kind = models.CharField(max_length=12, choices=Kind.choices)
    generation = models.CharField(max_length=64, blank=True, default="")
    hold = models.ForeignKey(Hold, on_delete=models.PROTECT, null=True, blank=True, related_name="entries", db_index=False)
    idempotency_key = models.CharField(max_length=255, unique=True)
    actor = models.CharField(max_length=160)
    reason = models.CharField(max_length=500, blank=True, default="")
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "entries"
        permissions = [
            ("grant_credits", "Can grant credits"),
            ("top_up_credits", "Can top up credits"),
            ("refund_credits", "Can refund requests"),
            ("adjust_credits", "Can adjust credits"),
            ("reconcile_ledger", "Can prove the books"),
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(amount_microcredits__gt=0), name="entry_amount_is_positive"),
            models.CheckConstraint(
                condition=~models.Q(debit_account=models.F("credit_account")), name="entry_moves_between_two_accounts"
            ),
            models.CheckConstraint(
                condition=one_of("kind", ["usage", "top_up", "grant", "plan", "refund", "adjustment", "expiry"]),
                name="entry_kind_is_known",
            ),
            models.CheckConstraint(
                condition=~models.Q(kind="usage") | (~models.Q(generation="") & models.Q(hold__isnull=False)),
                name="entry_of_usage_names_its_generation",
            ),
            models.UniqueConstraint(
                fields=["generation"], condition=models.Q(kind="usage"), name="entry_of_usage_is_one_per_generation"
            ),
            *money_rules("entry", "amount_microcredits"),
        ]
        indexes = [
            models.Index(fields=["debit_account", "created_at"], name="entry_by_debit"),
            models.Index(fields=["credit_account", "created_at"], name="entry_by_credit"),
            models.Index(fields=["created_at"], name="entry_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount_microcredits}"


class CreditLot(models.Model):
    """One credit of a workspace and what is left of it. `billing.ledger.lots` says what is spent first."""

    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, primary_key=True, related_name="lot")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="lots", db_index=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="As its entry says.")
    left_microcredits = MicrocreditsField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(left_microcredits__gte=0), name="credit_lot_left_is_not_negative"),
            *money_rules("credit_lot", "left_microcredits"),
        ]
        indexes = [
            models.Index(fields=["account"], condition=models.Q(left_microcredits__gt=0), name="credit_lot_left_by_account"),
            models.Index(
                fields=["expires_at"],
                condition=models.Q(left_microcredits__gt=0, expires_at__isnull=False),
                name="credit_lot_left_by_expiry",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.left_microcredits} left of {self.entry}"
