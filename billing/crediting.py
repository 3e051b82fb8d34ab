"""What staff do to the credits of a workspace: grants, top-ups, refunds, adjustments, each an order with a reason.

Each person may move so many credits in a day (UTC) as his role allows; above a threshold another person has to agree, whose
role allows as much. The sum of the refunds of a request is never more than what it was charged. An order is booked through
`billing.workspaces` and nowhere else, in the transaction in which it becomes `booked`; whatever happens leaves its event.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Sum
from django.db.models.functions import Abs
from django.utils import timezone

from billing import audit, roles, workspaces
from billing.ledger.decider import period_start
from billing.ledger.transfers import TransferError
from billing.models import Account, CodeBatch, CreditOrder, Entry, UsageRecord, Workspace
from billing.pricing import credits_text, microcredits

PERMISSIONS = {
    Entry.Kind.TOP_UP: "billing.top_up_credits",
    Entry.Kind.GRANT: "billing.grant_credits",
    Entry.Kind.REFUND: "billing.refund_credits",
    Entry.Kind.ADJUSTMENT: "billing.adjust_credits",
}
DECIDE = "billing.decide_creditorder"

_State = CreditOrder.State


class NotYours(TransferError):
    """The person's role does not let him do this."""


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be moved. `token` names the form it comes from, so that a form sent twice is one order."""

    workspace: Workspace
    kind: Entry.Kind
    amount_microcredits: int
    reason: str
    token: str
    expires_at: datetime | None = None
    generation: str = ""


def actor_name(person: User) -> str:
    """The name under which a person of the staff stands in entries and in the audit trail."""
    return f"staff:{person.get_username()}"


def second_person_above() -> int:
    """Microcredits; what is more needs two people."""
    return microcredits(str(settings.STAFF_SECOND_PERSON_ABOVE_CREDITS))


def left_today(person: User) -> int:
    """How many microcredits the person may still move today; what he issued as codes is moved."""
    today = {"ordered_by": actor_name(person), "created_at__gte": period_start("day", timezone.now())}
    ordered = CreditOrder.objects.filter(**today).exclude(state=_State.REFUSED)
    moved = ordered.aggregate(sum=Sum(Abs("amount_microcredits")))["sum"] or 0
    in_codes = CodeBatch.objects.filter(**today).exclude(state=CodeBatch.State.REFUSED)
    issued = in_codes.aggregate(sum=Sum("total_microcredits"))["sum"] or 0
    return max(0, roles.limit_of(person) - moved - issued)


def order(move: Move, *, person: User) -> CreditOrder:
    """Book the move, or keep it for a second person; the same token again gives the order it made the first time.

    Raises NotYours beyond the person's role, and TransferError with a text for staff.
    """
    with transaction.atomic():
        # Of two orders of one person, or for one workspace, the later one sees the earlier.
        User.objects.select_for_update().get(pk=person.pk)
        Account.objects.select_for_update().get(workspace=move.workspace)
        key = f"staff:{move.token}"
        first = CreditOrder.objects.filter(idempotency_key=key).first()
        if first is not None:
            return _same(first, move)
        _check(move, person)
        made = CreditOrder(
            workspace=move.workspace,
            kind=move.kind,
            amount_microcredits=move.amount_microcredits,
            generation=move.generation,
            expires_at=move.expires_at,
            reason=move.reason,
            idempotency_key=key,
            ordered_by=actor_name(person),
            needs_second_person=abs(move.amount_microcredits) > second_person_above(),
        )
        if made.needs_second_person:
            made.save()
            _record("ordered", made, actor_name(person), made.reason)
        else:
            _book(made, person)
    return made


def approve(waiting: CreditOrder, *, person: User) -> CreditOrder:
    """Book an open order as its second person. Raises NotYours for who ordered it, or may not do as much himself."""
    with transaction.atomic():
        waiting = _open(waiting)
        if waiting.ordered_by == actor_name(person):
            raise NotYours("a second person has to agree; you ordered it yourself")
        if not person.has_perm(DECIDE) or abs(waiting.amount_microcredits) > roles.limit_of(person):
            raise NotYours("your role does not let you agree to this amount")
        _book(waiting, person)
        _record("approved", waiting, actor_name(person), waiting.reason)
    return waiting


def refuse(waiting: CreditOrder, *, person: User, reason: str) -> CreditOrder:
    """Close an open order without booking it; whoever ordered it may take it back himself."""
    with transaction.atomic():
        waiting = _open(waiting)
        if waiting.ordered_by != actor_name(person) and not person.has_perm(DECIDE):
            raise NotYours("your role does not let you decide about this")
        waiting.state = _State.REFUSED
        waiting.decided_by, waiting.decided_at, waiting.decision_reason = actor_name(person), timezone.now(), reason
        waiting.save()
        _record("refused", waiting, actor_name(person), reason)
    return waiting


def refundable(record: UsageRecord) -> int:
    """What of the charge of a request was not refunded yet, nor is about to be; in microcredits."""
    orders = CreditOrder.objects.filter(generation=record.generation).exclude(state=_State.REFUSED)
    refunded = orders.aggregate(sum=Sum("amount_microcredits"))["sum"] or 0
    return record.charged_microcredits - int(refunded)


def _check(move: Move, person: User) -> None:
    if move.kind not in PERMISSIONS or not person.has_perm(PERMISSIONS[move.kind]):
        raise NotYours("your role does not let you do this")
    if not move.reason.strip():
        raise TransferError("a reason is needed")
    if move.amount_microcredits == 0 or (move.amount_microcredits < 0 and move.kind != Entry.Kind.ADJUSTMENT):
        raise TransferError(f"{credits_text(move.amount_microcredits)} credits cannot be moved")
    if move.expires_at is not None and (move.kind != Entry.Kind.GRANT or move.expires_at <= timezone.now()):
        raise TransferError("only a grant can expire, and in the future")
    left = left_today(person)
    if abs(move.amount_microcredits) > left:
        raise NotYours(f"your role lets you move {credits_text(left)} more credits today")
    if move.kind == Entry.Kind.REFUND:
        record = UsageRecord.objects.filter(generation=move.generation, workspace=move.workspace).first()
        if record is None:
            raise TransferError("a refund names the request that it is of")
        if move.amount_microcredits > (most := refundable(record)):
            raise TransferError(f"{credits_text(most)} credits of this request can be refunded")


def _same(first: CreditOrder, move: Move) -> CreditOrder:
    ordered = (first.workspace_id, first.kind, first.amount_microcredits, first.generation, first.expires_at)
    if ordered != (move.workspace.pk, move.kind, move.amount_microcredits, move.generation, move.expires_at):
        raise TransferError("this form was sent before, with other values; open it anew")
    return first


def _book(made: CreditOrder, person: User) -> None:
    made.entry = workspaces.transfer_credits(
        made.workspace,
        made.amount_microcredits,
        kind=Entry.Kind(made.kind),
        idempotency_key=made.idempotency_key,
        actor=made.ordered_by,
        reason=made.reason,
        expires_at=made.expires_at,
        generation=made.generation,
    )
    made.state = _State.BOOKED
    made.decided_by, made.decided_at = actor_name(person), timezone.now()
    made.save()


def _open(waiting: CreditOrder) -> CreditOrder:
    """The row, locked. Its account first, as `order` does."""
    Account.objects.select_for_update().get(workspace=waiting.workspace_id)
    current = CreditOrder.objects.select_for_update(of=("self",)).select_related("workspace").get(pk=waiting.pk)
    if current.state != _State.OPEN:
        raise TransferError(f"it is decided already: {current.get_state_display().lower()}")
    return current


def _record(verb: str, made: CreditOrder, actor: str, reason: str) -> None:
    details = {"order": made.pk, "kind": made.kind, "amount_microcredits": made.amount_microcredits}
    if made.generation:
        details["generation"] = made.generation
    audit.record(
        f"credit_order.{verb}", actor=actor, workspace=made.workspace, target=str(made), reason=reason, details=details
    )
