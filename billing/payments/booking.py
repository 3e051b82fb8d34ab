"""What payments do to credit. Each act locks the account and then the payment, and does nothing where it was done before."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import msgspec
import structlog
from django.db import OperationalError, transaction
from django.db.models import Max, Sum
from django.utils import timezone

from billing import audit, notices, workspaces
from billing.models import Account, Entry, Notice, Payment, PaymentTerms
from billing.pricing import credits_text

log = structlog.get_logger(__name__)

ACTOR: Final = "stripe"
MOST_FAILURES: Final = 3
_MOST_AT_ONCE: Final = 100

_State = Payment.State


class Dispute(msgspec.Struct, frozen=True):
    """How one dispute stood at `told_at_s`, in seconds of the epoch. `units` are what the bank has taken for it."""

    id: str
    units: int
    is_over: bool
    told_at_s: int


class PaymentMismatch(Exception):
    """Stripe received another amount than the payment asked for. Staff have to look at it."""


def settle(payment_id: str, *, intent_id: str, units: int, currency: str) -> bool:
    """Credit what was paid. False if it was credited before, or the payment is none of ours. Raises PaymentMismatch.

    A payment that was given up is credited too: the money is there. What was refunded or disputed before is taken back at once.
    """
    with transaction.atomic():
        payment = _locked(payment_id)
        if payment is None or payment.state == _State.PAID:
            return False
        if (units, currency.lower()) != (payment.price_units, payment.currency):
            log.error("a payment of another amount arrived", payment=payment.public_id, units=units, currency=currency)
            raise PaymentMismatch
        payment.entry = workspaces.transfer_credits(
            payment.workspace,
            payment.amount_microcredits,
            kind=Entry.Kind.TOP_UP,
            idempotency_key=f"stripe:{intent_id}",
            actor=payment.created_by,
            reason=f"Payment {payment.public_id}",
        )
        payment.state, payment.intent_id, payment.settled_at, payment.failure = _State.PAID, intent_id, timezone.now(), ""
        _adjust(payment, 0)
        payment.save()
        if payment.origin == Payment.Origin.AUTO:
            PaymentTerms.objects.filter(workspace=payment.workspace).update(failures=0)
    return True


def keep_card(payment_id: str, *, customer_id: str, method_id: str) -> None:
    """The card of a payment that allowed it is charged from now on, in whatever order payments are told: the newest one's counts."""
    with transaction.atomic():
        payment = _locked(payment_id)
        if payment is None or not (payment.keeps_card and customer_id and method_id):
            return
        newer = Payment.objects.filter(workspace=payment.workspace, keeps_card=True, state=_State.PAID, pk__gt=payment.pk)
        # Of a newer one whose card was not told yet, the older card serves until it is.
        has_card = PaymentTerms.objects.filter(workspace=payment.workspace).exclude(method_id="").exists()
        if not (has_card and newer.exists()):
            card = {"customer_id": customer_id, "method_id": method_id}
            PaymentTerms.objects.update_or_create(workspace=payment.workspace, defaults=card)


def cancel(payment_id: str, why: str = "") -> None:
    """Nobody paid in time, or what else is told."""
    Payment.objects.filter(public_id=payment_id, state=_State.OPEN).update(state=_State.CANCELED, failure=why)


def fail(payment_id: str, why: str) -> None:
    """The money did not come. After so many charges in a row that failed the workspace is no longer topped up by itself."""
    with transaction.atomic():
        payment = _locked(payment_id)
        if payment is None or payment.state != _State.OPEN:
            return
        payment.state, payment.failure = _State.FAILED, why[:200]
        payment.save()
        is_last = False
        if payment.origin == Payment.Origin.AUTO:
            terms = PaymentTerms.objects.select_for_update().get(workspace=payment.workspace)
            terms.failures += 1
            is_last = terms.failures >= MOST_FAILURES and terms.is_auto
            terms.is_auto = terms.is_auto and not is_last
            terms.save()
            if is_last:
                details = {"failures": terms.failures}
                audit.record("payments.auto_ended", actor=ACTOR, workspace=payment.workspace, details=details)
        _tell_failure(payment, is_last=is_last)


def correct(payment: Payment, *, refunded_units: int = 0, dispute: Dispute | None = None) -> None:
    """Take back the credit of what was refunded or is disputed, as far as it is free, or give it again.

    What was spent already cannot be taken: the row says how much was. What requests in flight hold then is owed, and taken as
    they leave it (`take_owed`). Of a payment that is not settled yet it is noted.
    """
    with transaction.atomic():
        current = _locked(payment.public_id)
        if current is None:
            return
        before = _lost_microcredits(current)
        # Refunds only grow; of two that come in the wrong order the larger one counts.
        current.refunded_units = max(current.refunded_units, refunded_units)
        if dispute is not None:
            _keep_newest(current, dispute)
        if current.state == _State.PAID:
            _adjust(current, before)
        current.save()


def take_owed() -> int:
    """Take what was held when a payment was paid back or disputed and is free now; of how many. A chore of housekeeping."""
    # By chance, so that those whose requests hold on for long keep none of the others waiting.
    owing = Payment.objects.filter(owed_microcredits__gt=0).order_by("?").values_list("public_id", flat=True)
    return sum(map(_take_owed_if_possible, owing[:_MOST_AT_ONCE]))


def _keep_newest(payment: Payment, dispute: Dispute) -> None:
    """Each dispute counts as it was told last by Stripe's clock, whatever comes last here; within a second the end is later.

    One that was lost may still be won, after an appeal, so that it is over does not say that nothing follows.
    """
    known = dict(payment.disputes or {})
    newest = [dispute.told_at_s, dispute.is_over, dispute.units]
    if known.get(dispute.id, newest)[:2] <= newest[:2]:
        known[dispute.id] = newest
    payment.disputes = known
    payment.disputed_units = sum(units for _, _, units in known.values())


def _adjust(payment: Payment, before: int) -> None:
    """Book what the payment, which is locked and settled, lost or got back since it had lost `before`. The caller saves its row."""
    lost = _lost_microcredits(payment)
    missing = lost - payment.taken_microcredits
    # What was neither taken nor held when it was lost had been spent, and is not taken from what came in since.
    payment.owed_microcredits = max(0, min(missing, payment.owed_microcredits + lost - before))
    if missing < 0:
        _move(payment, missing)
    elif lost > before:
        account = Account.objects.get(workspace=payment.workspace)
        fresh = min(payment.owed_microcredits, lost - before)
        # What was owed before is waited for, for what is free now may have come in since.
        is_first = payment.owed_microcredits == fresh
        _take(payment, min(fresh, account.posted_microcredits - account.held_microcredits))
        payment.owed_microcredits = min(payment.owed_microcredits, account.held_microcredits)
        if is_first:
            # The account is locked, so entries of it that are to come get higher ids.
            payment.owed_after_entry = Entry.objects.aggregate(id=Max("pk"))["id"] or 0


def _take_owed_if_possible(payment_id: str) -> bool:
    """What somebody keeps locked is taken in a later round."""
    try:
        return _take_owed(payment_id)
    except OperationalError:
        log.exception("what a payment owes could not be taken", payment=payment_id)
        return False


def _take_owed(payment_id: str) -> bool:
    """Whether something was taken. What came in since is left alone: all that was spent since, was spent of what was there."""
    with transaction.atomic():
        payment = _locked(payment_id)
        if payment is None:
            return False
        account = Account.objects.get(workspace=payment.workspace)
        later = Entry.objects.filter(credit_account=account, pk__gt=payment.owed_after_entry)
        left = account.posted_microcredits - (later.aggregate(sum=Sum("amount_microcredits"))["sum"] or 0)
        # Once nothing is held all that is left is taken, so this ends, whatever becomes of the requests.
        payment.owed_microcredits = max(0, min(payment.owed_microcredits, left))
        is_taken = _take(payment, left - account.held_microcredits)
        payment.save()
    return is_taken


def _lost_microcredits(payment: Payment) -> int:
    """What of the payment's credit is refunded or disputed."""
    units = min(payment.price_units, payment.refunded_units + payment.disputed_units)
    return payment.amount_microcredits * units // payment.price_units


def _take(payment: Payment, most_microcredits: int) -> bool:
    """Take what is owed, as far as that. Whether it was anything."""
    amount = min(payment.owed_microcredits, most_microcredits)
    if amount <= 0:
        return False
    _move(payment, amount)
    payment.owed_microcredits -= amount
    return True


def _move(payment: Payment, amount_microcredits: int) -> None:
    """Take so much back or, a negative amount, give it again."""
    payment.corrections += 1
    workspaces.transfer_credits(
        payment.workspace,
        -amount_microcredits,
        kind=Entry.Kind.ADJUSTMENT,
        idempotency_key=f"stripe:{payment.public_id}:{payment.corrections}",
        actor=ACTOR,
        reason=f"Payment {payment.public_id} was {'paid back or is disputed' if amount_microcredits > 0 else 'given again'}",
    )
    payment.taken_microcredits += amount_microcredits


def _locked(payment_id: str) -> Payment | None:
    """The payment, which nobody else changes until the transaction ends, nor the account of its workspace."""
    found = Payment.objects.filter(public_id=payment_id).first()
    if found is None:
        return None
    Account.objects.select_for_update().get(workspace=found.workspace_id)
    return Payment.objects.select_for_update(of=("self",)).select_related("workspace").get(pk=found.pk)


def _tell_failure(payment: Payment, *, is_last: bool) -> None:
    """At most once a day, but that nothing is charged any more is always told."""
    workspace = payment.workspace
    told = Notice.objects.filter(workspace=workspace, kind=Notice.Kind.PAYMENT_FAILED)
    if not is_last and told.filter(created_at__gt=timezone.now() - timedelta(days=1)).exists():
        return
    amount = credits_text(payment.amount_microcredits)
    more = f" After {MOST_FAILURES} failures auto top-up is off; set it up again on the page of payments." if is_last else ""
    notices.publish(
        workspace,
        Notice.Kind.PAYMENT_FAILED,
        title=f"Auto top-up of {workspace.name} is off" if is_last else f"A payment of {workspace.name} failed",
        text=f"The payment of {amount} credits did not succeed: {payment.failure}{more}",
        data={"id": payment.public_id, "credits": amount, "origin": payment.origin, "is_auto_off": is_last},
        place="credits/payments",
    )
