"""Payments, and the terms on which a workspace is topped up by itself. `billing.payments` writes all rows here."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from billing.models.fields import MicrocreditsField, OptionalMicrocreditsField, money_rules, positive_rules
from billing.models.ledger import Entry
from billing.models.workspaces import Workspace
from infery_site.ids import public_id


def new_payment_id() -> str:
    return public_id("pay")


class Payment(models.Model):
    """Money for credit. `_units` are the smallest ones of the currency, such as cents."""

    class Origin(models.TextChoices):
        CHECKOUT = "checkout", "Checkout"
        AUTO = "auto", "Auto top-up"

    class State(models.TextChoices):
        OPEN = "open", "Open"
        PAID = "paid", "Paid"
        FAILED = "failed", "Failed"
        CANCELED = "canceled", "Canceled"

    public_id = models.CharField(max_length=40, unique=True, default=new_payment_id, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="payments", db_index=False)
    origin = models.CharField(max_length=12, choices=Origin.choices)
    amount_microcredits = MicrocreditsField()
    price_units = models.PositiveBigIntegerField()
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=12, choices=State.choices, default=State.OPEN)
    keeps_card = models.BooleanField(default=False, help_text="Whether its card may be charged again.")
    session_id = models.CharField(max_length=255, blank=True, default="", help_text="Of the checkout.")
    checkout_url = models.TextField(blank=True, default="")
    intent_id = models.CharField(max_length=255, blank=True, default="", help_text="The provider's id of the payment.")
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, null=True, blank=True, related_name="payment")
    refunded_units = models.PositiveBigIntegerField(default=0)
    disputed_units = models.PositiveBigIntegerField(default=0)
    disputes = models.JSONField(
        null=True, editable=False, help_text="By the provider's id: when it was told, whether it is over, the units of it."
    )
    taken_microcredits = MicrocreditsField(default=0, help_text="Credit taken back for what was refunded or is disputed.")
    owed_microcredits = MicrocreditsField(
        default=0, db_default=0, editable=False, help_text="Credit that requests held when it was to be taken back."
    )
    owed_after_entry = models.BigIntegerField(
        default=0, db_default=0, editable=False, help_text="Id of the newest entry of that moment."
    )
    corrections = models.PositiveIntegerField(default=0, help_text="How often credit was taken back or given again.")
    failure = models.CharField(max_length=200, blank=True, default="")
    created_by = models.CharField(max_length=160)
    created_at = models.DateTimeField(default=timezone.now)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(origin__in=["checkout", "auto"]), name="payment_origin_is_known"),
            models.CheckConstraint(
                condition=Q(state="paid", entry__isnull=False, settled_at__isnull=False)
                | (Q(state__in=["open", "failed", "canceled"]) & Q(entry__isnull=True)),
                name="payment_is_paid_with_its_entry",
            ),
            models.UniqueConstraint(fields=["intent_id"], condition=~Q(intent_id=""), name="payment_is_one_per_intent"),
            models.UniqueConstraint(fields=["session_id"], condition=~Q(session_id=""), name="payment_is_one_per_session"),
            models.UniqueConstraint(
                fields=["workspace"], condition=Q(origin="auto", state="open"), name="payment_by_itself_is_one_at_a_time"
            ),
            models.CheckConstraint(
                condition=Q(taken_microcredits__gte=0, taken_microcredits__lte=F("amount_microcredits")),
                name="payment_takes_back_what_it_gave",
            ),
            *positive_rules("payment", "amount_microcredits", "price_units"),
            models.CheckConstraint(
                condition=Q(owed_microcredits__gte=0, owed_microcredits__lte=F("amount_microcredits")),
                name="payment_owes_what_it_gave",
            ),
            *money_rules("payment", "amount_microcredits", "taken_microcredits", "owed_microcredits"),
        ]
        indexes = [
            models.Index(fields=["workspace", "-id"], name="payment_by_workspace"),
            models.Index(fields=["created_at"], name="payment_by_time"),
            models.Index(fields=["id"], condition=Q(owed_microcredits__gt=0), name="payment_that_owes"),
        ]

    def __str__(self) -> str:
        return f"{self.get_origin_display()} {self.public_id}"


class PaymentTerms(models.Model):
    """The card of a workspace, as the provider knows it, and when it is charged without anybody asking."""

    workspace = models.OneToOneField(Workspace, on_delete=models.PROTECT, related_name="payment_terms")
    customer_id = models.CharField(max_length=255, blank=True, default="")
    method_id = models.CharField(max_length=255, blank=True, default="")
    is_auto = models.BooleanField(default=False)
    threshold_microcredits = OptionalMicrocreditsField(null=True, blank=True)
    amount_microcredits = OptionalMicrocreditsField(null=True, blank=True)
    ceiling_microcredits = OptionalMicrocreditsField(null=True, blank=True, help_text="Of a month, in UTC.")
    failures = models.PositiveSmallIntegerField(default=0, help_text="Charges that failed, one after the other.")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(is_auto=False)
                | (
                    ~Q(method_id="")
                    & Q(threshold_microcredits__gt=0, amount_microcredits__gt=0)
                    & Q(ceiling_microcredits__gte=F("amount_microcredits"))
                ),
                name="payment_terms_of_auto_are_whole",
            ),
            *money_rules("payment_terms", "threshold_microcredits", "amount_microcredits", "ceiling_microcredits"),
        ]
        indexes = [models.Index(fields=["id"], condition=Q(is_auto=True), name="payment_terms_auto")]

    def __str__(self) -> str:
        return f"payments of {self.workspace}"
