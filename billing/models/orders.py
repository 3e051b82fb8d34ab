"""What staff ordered to be done to credits: one row for each grant, top-up, refund or adjustment, with who agreed to it."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from billing.models.fields import MicrocreditsField, money_rules
from billing.models.ledger import Entry
from billing.models.workspaces import Workspace


class CreditOrder(models.Model):
    """`billing.crediting` writes it. Booked at once, or open until another person than the one who ordered it decides."""

    class State(models.TextChoices):
        OPEN = "open", "Waits for a second person"
        BOOKED = "booked", "Booked"
        REFUSED = "refused", "Refused"

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="credit_orders")
    kind = models.CharField(max_length=12, choices=Entry.Kind.choices)
    amount_microcredits = MicrocreditsField(help_text="Below zero for a correction that takes credit away.")
    generation = models.CharField(max_length=64, blank=True, default="", help_text="The request that is refunded.")
    expires_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=500)
    idempotency_key = models.CharField(max_length=255, unique=True)
    ordered_by = models.CharField(max_length=160)
    created_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    decided_by = models.CharField(max_length=160, blank=True, default="")
    decided_at = models.DateTimeField(null=True, blank=True)
    decision_reason = models.CharField(max_length=500, blank=True, default="")
    needs_second_person = models.BooleanField(default=False)
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, null=True, blank=True, related_name="order")

    class Meta:
        permissions = [("decide_creditorder", "Can be the second person of a credit order")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(kind__in=["top_up", "grant", "refund", "adjustment"]), name="credit_order_kind_is_known"
            ),
            models.CheckConstraint(
                condition=models.Q(amount_microcredits__gt=0) | models.Q(kind="adjustment", amount_microcredits__lt=0),
                name="credit_order_takes_only_by_adjustment",
            ),
            models.CheckConstraint(
                condition=models.Q(state="open", decided_at__isnull=True, entry__isnull=True)
                | models.Q(state="booked", decided_at__isnull=False, entry__isnull=False)
                | models.Q(state="refused", decided_at__isnull=False, entry__isnull=True),
                name="credit_order_state_is_of_its_decision",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="booked", needs_second_person=True) | ~models.Q(decided_by=models.F("ordered_by")),
                name="credit_order_has_its_second_person",
            ),
            *money_rules("credit_order", "amount_microcredits"),
        ]
        indexes = [
            models.Index(fields=["ordered_by", "created_at"], name="credit_order_by_person"),
            models.Index(fields=["generation"], condition=~models.Q(generation=""), name="credit_order_by_generation"),
            models.Index(fields=["created_at"], name="credit_order_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} #{self.pk}"
