"""Top-ups by themselves: when the balance is below a threshold, at most so many credits a month, with the card that was kept.

Housekeeping begins them, one at a time for a workspace, and a task charges the card, if that is still wanted when it is tried.
A charge that failed is followed by another one after REST; after three in a row it is off, and those who may see the credits
are told. What became of one of which nobody told for LOOK_AFTER is looked up, for while it is open no other is begun.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import BigIntegerField, Exists, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone
from django_tasks import task
from django_tasks.base import TaskResultStatus
from django_tasks_db.models import DBTaskResult

from billing import audit
from billing.ledger.decider import period_start
from billing.models import Payment, PaymentTerms, Workspace
from billing.payments import booking, provider
from billing.payments.checkout import checked_amount, price_units
from billing.pricing import MICROCREDITS_PER_CREDIT

log = structlog.get_logger(__name__)

REST: Final = timedelta(hours=1)
RETRY_AFTER: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30))
LOOK_AFTER: Final = timedelta(hours=1)
_MOST_AT_ONCE: Final = 100


class Auto(msgspec.Struct, frozen=True):
    """In whole credits; the ceiling is of a month in UTC."""

    threshold: int
    amount: int
    ceiling: int


def set_auto(workspace: Workspace, wanted: Auto | None, *, actor: str) -> None:
    """Switch it on with these terms, or off. Raises ValidationError, by the name of the field."""
    with transaction.atomic():
        terms = PaymentTerms.objects.select_for_update().filter(workspace=workspace).first()
        if wanted is None:
            if terms is not None:
                terms.is_auto = False
                terms.save()
        else:
            if terms is None or not terms.method_id:
                raise ValidationError({"amount": "Top up once with a card that is kept, then switch this on."})
            _check(wanted)
            terms.is_auto, terms.failures = True, 0
            terms.threshold_microcredits = wanted.threshold * MICROCREDITS_PER_CREDIT
            terms.amount_microcredits = wanted.amount * MICROCREDITS_PER_CREDIT
            terms.ceiling_microcredits = wanted.ceiling * MICROCREDITS_PER_CREDIT
            terms.save()
        details = None if wanted is None else msgspec.to_builtins(wanted)
        audit.record("payments.auto_set", actor=actor, workspace=workspace, details={"auto": details})


def charged_this_month(workspace_id: int, now: datetime) -> int:
    """Microcredits that were bought, or are being bought, by themselves since the month began."""
    return int(_of_this_month(now).filter(workspace=workspace_id).aggregate(sum=Sum("amount_microcredits"))["sum"] or 0)


def begin_due() -> int:
    """Begin the payments that are due; how many. A chore of housekeeping."""
    if not provider.is_configured():
        return 0
    due = _due(timezone.now()).select_related("workspace").order_by("pk")
    return sum(map(_begin, due[:_MOST_AT_ONCE]))


def _due(now: datetime) -> QuerySet[PaymentTerms]:
    """Terms by which a payment can begin now. Who has to wait is not among them, and so keeps nobody else from his turn."""
    own = Payment.objects.filter(workspace=OuterRef("workspace"), origin=Payment.Origin.AUTO)
    is_waiting = Q(state=Payment.State.OPEN) | Q(state=Payment.State.FAILED, created_at__gt=now - REST)
    of_month = _of_this_month(now).filter(workspace=OuterRef("workspace")).order_by().values("workspace")
    charged = Subquery(of_month.annotate(sum=Sum("amount_microcredits")).values("sum"), output_field=BigIntegerField())
    low = PaymentTerms.objects.filter(
        is_auto=True,
        workspace__state=Workspace.State.ACTIVE,
        workspace__account__posted_microcredits__lt=F("threshold_microcredits"),
    )
    return low.exclude(Exists(own.filter(is_waiting))).filter(
        ceiling_microcredits__gte=F("amount_microcredits") + Coalesce(charged, 0)
    )


def _of_this_month(now: datetime) -> QuerySet[Payment]:
    """Those by themselves that were made, or are being made."""
    return Payment.objects.filter(
        origin=Payment.Origin.AUTO,
        created_at__gte=period_start("month", now),
        state__in=[Payment.State.OPEN, Payment.State.PAID],
    )


def _begin(terms: PaymentTerms) -> bool:
    amount = terms.amount_microcredits or 0
    try:
        with transaction.atomic():
            payment = Payment.objects.create(
                workspace=terms.workspace,
                origin=Payment.Origin.AUTO,
                amount_microcredits=amount,
                price_units=price_units(amount),
                currency=settings.STRIPE_CURRENCY,
                created_by="auto top-up",
            )
            charge.enqueue(payment.public_id)
    except IntegrityError:
        return False  # One is open already.
    return True


@task()
def charge(payment_id: str, attempt: int = 0) -> None:
    """Charge the card, once however often this runs: the provider knows the payment by its id.

    What is not wanted any more is not charged, but an earlier try may have done so and its answer been lost.
    """
    payment = Payment.objects.filter(public_id=payment_id, state=Payment.State.OPEN).select_related("workspace").first()
    if payment is None:
        return
    terms = PaymentTerms.objects.get(workspace=payment.workspace_id)
    why_not = _why_not(payment.workspace, terms)
    try:
        intent = provider.charge_of(payment, terms) if why_not else provider.charge(payment, terms)
    except provider.Declined as refusal:
        booking.fail(payment_id, str(refusal))
    except provider.Unavailable as error:
        if attempt < len(RETRY_AFTER):
            log.warning("a charge waits", payment=payment_id, cause=_cause(error))
            charge.using(run_after=timezone.now() + RETRY_AFTER[attempt]).enqueue(payment_id, attempt + 1)
        else:
            booking.fail(payment_id, "The payment service did not answer.")
    else:
        if intent is None:
            booking.cancel(payment_id, why_not)
        else:
            _conclude(payment_id, intent)


def look_up_open() -> int:
    """Have open payments looked up of which nothing was heard for LOOK_AFTER; how many. A chore of housekeeping."""
    if not provider.is_configured():
        return 0
    since = timezone.now() - LOOK_AFTER
    still_open = Payment.objects.filter(origin=Payment.Origin.AUTO, state=Payment.State.OPEN, created_at__lt=since)
    if not (payment_ids := list(still_open.order_by("pk").values_list("public_id", flat=True))):
        return 0
    in_hand = Q(status__in=[TaskResultStatus.READY, TaskResultStatus.RUNNING]) | Q(finished_at__gte=since)
    tasks = DBTaskResult.objects.filter(in_hand, task_path__in=[charge.module_path, look_up.module_path])
    heard_of = {arguments["args"][0] for arguments in tasks.values_list("args_kwargs", flat=True)}
    silent = [payment_id for payment_id in payment_ids if payment_id not in heard_of][:_MOST_AT_ONCE]
    for payment_id in silent:
        look_up.enqueue(payment_id)
    return len(silent)


@task()
def look_up(payment_id: str) -> None:
    """What became of a charge, should its end not have been told. While Stripe does not answer it stays open, to be asked again."""
    payment = Payment.objects.filter(public_id=payment_id, state=Payment.State.OPEN).first()
    if payment is None:
        return
    try:
        intent = provider.charge_of(payment, PaymentTerms.objects.get(workspace=payment.workspace_id))
    except (provider.Unavailable, provider.Declined) as error:
        log.warning("a charge could not be looked up", payment=payment_id, cause=_cause(error))
        return
    if intent is None:
        booking.fail(payment_id, "The charge did not reach the payment service.")
    else:
        _conclude(payment_id, intent)


def _cause(error: provider.Unavailable | provider.Declined) -> str:
    """For the log: what a refusal says is for the owner of the card."""
    return str(error) if isinstance(error, provider.Unavailable) else type(error).__name__


def _conclude(payment_id: str, intent: provider.Intent) -> None:
    """Book what became of the charge, if it is over."""
    if intent.status == "succeeded":
        booking.settle(payment_id, intent_id=intent.id, units=intent.units, currency=intent.currency)
    elif intent.status != "processing":
        booking.fail(payment_id, intent.failure or "The bank wants its owner to confirm the charge.")


def _why_not(workspace: Workspace, terms: PaymentTerms) -> str:
    """Why the card must not be charged, in words for the page of the payment; empty if it may."""
    if not (terms.is_auto and terms.method_id):
        return "Auto top-up was switched off before the card was charged."
    if workspace.state != Workspace.State.ACTIVE:
        return f"The workspace was {workspace.get_state_display().lower()} before the card was charged."
    return ""


def _check(wanted: Auto) -> None:
    try:
        checked_amount(wanted.amount)
    except ValidationError as refusal:
        raise ValidationError({"amount": refusal.messages}) from refusal
    if not 0 < wanted.threshold <= settings.TOP_UP_MOST_CREDITS:
        raise ValidationError({"threshold": f"1 to {settings.TOP_UP_MOST_CREDITS:,} credits."})
    if not wanted.amount <= wanted.ceiling <= 100 * settings.TOP_UP_MOST_CREDITS:
        raise ValidationError({"ceiling": "At least the amount of one top-up."})
