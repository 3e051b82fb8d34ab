"""Redemption codes: credit that staff issue as texts, for whoever enters one on the credits page of a workspace.

As of a key, only the SHA-256 of a code is kept, with its last characters by which staff recognise it. `billing.redemption`
writes all rows here.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from billing.models.fields import MicrocreditsField, money_rules, positive_rules
from billing.models.ledger import Entry
from billing.models.workspaces import Workspace
from infery_site.ids import public_id


def new_batch_id() -> str:
    return public_id("batch")


class CodeBatch(models.Model):
    """Codes that were ordered together. They are good while it is issued; above a threshold a second person issues it."""

    class State(models.TextChoices):
        OPEN = "open", "Waits for a second person"
        ISSUED = "issued", "Issued"
        REFUSED = "refused", "Refused"
        WITHDRAWN = "withdrawn", "Withdrawn"

    public_id = models.CharField(max_length=40, unique=True, default=new_batch_id, editable=False)
    kind = models.CharField(max_length=12, choices=[(kind, kind.label) for kind in (Entry.Kind.TOP_UP, Entry.Kind.GRANT)])
    amount_microcredits = MicrocreditsField(help_text="What one use of one code gives.")
    count = models.PositiveIntegerField(help_text="How many codes.")
    max_uses = models.PositiveIntegerField(help_text="How many workspaces may use each of them, once each.")
    total_microcredits = MicrocreditsField(help_text="What all uses of all codes give.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="From when on no code of it is taken.")
    reason = models.CharField(max_length=500)
    idempotency_key = models.CharField(max_length=255, unique=True)
    ordered_by = models.CharField(max_length=160)
    created_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=12, choices=State.choices, default=State.OPEN)
    needs_second_person = models.BooleanField(default=False)
    decided_by = models.CharField(max_length=160, blank=True, default="")
    decided_at = models.DateTimeField(null=True, blank=True)
    decision_reason = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        verbose_name = "batch of codes"
        verbose_name_plural = "batches of codes"
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["top_up", "grant"]), name="code_batch_kind_is_known"),
            models.CheckConstraint(
                condition=Q(state__in=["open", "issued", "refused", "withdrawn"]), name="code_batch_state_is_known"
            ),
            *positive_rules("code_batch", "amount_microcredits", "count", "max_uses"),
            models.CheckConstraint(
                condition=Q(total_microcredits=F("amount_microcredits") * F("count") * F("max_uses")),
                name="code_batch_total_is_of_its_uses",
            ),
            models.CheckConstraint(
                condition=~Q(state="issued", needs_second_person=True) | ~(Q(decided_by="") | Q(decided_by=F("ordered_by"))),
                name="code_batch_has_its_second_person",
            ),
            *money_rules("code_batch", "amount_microcredits", "total_microcredits"),
        ]
        indexes = [
            models.Index(fields=["created_at"], name="code_batch_by_time"),
            models.Index(fields=["ordered_by", "created_at"], name="code_batch_by_person"),
        ]

    def __str__(self) -> str:
        return f"Codes #{self.pk}"


class RedemptionCode(models.Model):
    batch = models.ForeignKey(CodeBatch, on_delete=models.PROTECT, related_name="codes")
    digest = models.CharField(max_length=64, unique=True, editable=False, help_text="SHA-256 of the code, in hex.")
    hint = models.CharField(max_length=8, editable=False, help_text="Its last characters.")
    uses = models.PositiveIntegerField(default=0, editable=False)
    max_uses = models.PositiveIntegerField(editable=False, help_text="As its batch says.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    withdrawn_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(digest__regex=r"^[0-9a-f]{64}$"), name="redemption_code_digest_is_sha256"),
            models.CheckConstraint(condition=Q(uses__lte=F("max_uses")), name="redemption_code_is_not_used_too_often"),
        ]
        indexes = [models.Index(fields=["created_at"], name="redemption_code_by_time")]

    def __str__(self) -> str:
        return f"Code …{self.hint}"


class Redemption(models.Model):
    """One use of a code by a workspace, with the entry that it made."""

    code = models.ForeignKey(RedemptionCode, on_delete=models.PROTECT, related_name="redemptions")
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="redemptions")
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, related_name="redemption")
    redeemed_by = models.CharField(max_length=160)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["code", "workspace"], name="redemption_is_one_per_code_and_workspace"),
        ]

    def __str__(self) -> str:
        return f"{self.code} by {self.workspace}"
