"""Redemption codes: staff issue them, a workspace redeems one for credit.

What staff issue counts against what their role may move in a day, as if it were moved, and above the same threshold as of
an order a second person has to agree: until then its codes are refused. The texts are shown to who ordered them, once, and
stored nowhere.

A use of a code is one entry of the ledger, with the row that says so, in one transaction; constraints keep a code from
being used too often, or twice by one workspace. Wrong codes are counted by the audit trail: after ten in an hour a
workspace, and whoever tried them in another one, has to wait.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Final

import msgspec
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from billing import audit, roles, workspaces
from billing.crediting import DECIDE, PERMISSIONS, NotYours, actor_name, left_today, second_person_above
from billing.ledger.transfers import TransferError
from billing.models import Account, AuditEvent, CodeBatch, Entry, Redemption, RedemptionCode, Workspace
from billing.pricing import MAX_MICROCREDITS, credits_text

KINDS: Final = (Entry.Kind.TOP_UP, Entry.Kind.GRANT)
MAX_CODES: Final = 500
MAX_USES: Final = 1_000_000
WRONG_CODES_ALLOWED: Final = 10
WRONG_CODES_WITHIN: Final = timedelta(hours=1)

# Crockford's base 32, without the letters that people take for digits. Twenty of them are 100 bits.
_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH: Final = 20
_GROUP: Final = 5
_MISREAD: Final = str.maketrans("OIL", "011", " -\u2010\u2011\u2012\u2013\t")
_LONGEST: Final = 100
_WRONG: Final = "code.refused"

_State = CodeBatch.State


class CodeRefused(Exception):
    """A code that gives nothing; the message says why, in words for the page. Nothing was booked."""


class TooManyWrongCodes(CodeRefused):
    """No code is looked at for a while."""


class Issue(msgspec.Struct, frozen=True, kw_only=True):
    """What codes are wanted. `token` names the form, so that a form sent twice issues once."""

    kind: Entry.Kind
    amount_microcredits: int
    count: int
    max_uses: int
    reason: str
    token: str
    expires_at: datetime | None = None

    @property
    def total_microcredits(self) -> int:
        return self.amount_microcredits * self.count * self.max_uses


# Staff


def issue(wanted: Issue, *, person: User) -> tuple[CodeBatch, list[str]]:
    """The batch, and the texts of its codes, which nobody can show again.

    Raises NotYours beyond the person's role, and TransferError with a text for staff, also for a form sent before.
    """
    with transaction.atomic():
        # Of two acts of one person the later one sees what the earlier one used of the day.
        User.objects.select_for_update().get(pk=person.pk)
        _check(wanted, person)
        needs_second_person = wanted.total_microcredits > second_person_above()
        batch = CodeBatch.objects.create(
            kind=wanted.kind,
            amount_microcredits=wanted.amount_microcredits,
            count=wanted.count,
            max_uses=wanted.max_uses,
            total_microcredits=wanted.total_microcredits,
            expires_at=wanted.expires_at,
            reason=wanted.reason,
            idempotency_key=_key_of(wanted),
            ordered_by=actor_name(person),
            needs_second_person=needs_second_person,
            state=_State.OPEN if needs_second_person else _State.ISSUED,
        )
        texts = [_new_text() for _ in range(wanted.count)]
        RedemptionCode.objects.bulk_create(
            RedemptionCode(batch=batch, digest=_digest(text), hint=text[-4:], max_uses=wanted.max_uses) for text in texts
        )
        _record("ordered" if needs_second_person else "issued", batch, person, wanted.reason)
    return batch, [_grouped(text) for text in texts]


def approve(batch: CodeBatch, *, person: User) -> None:
    """Make the codes of an open batch good, as its second person. Raises NotYours, TransferError."""
    with transaction.atomic():
        batch = _locked(batch, _State.OPEN)
        if batch.ordered_by == actor_name(person):
            raise NotYours("a second person has to agree; you ordered them yourself")
        if not person.has_perm(DECIDE) or batch.total_microcredits > roles.limit_of(person):
            raise NotYours("your role does not let you agree to this amount")
        _decide(batch, _State.ISSUED, "approved", person, batch.reason)


def refuse(batch: CodeBatch, *, person: User, reason: str) -> None:
    """Close an open batch for good; whoever ordered it may take it back himself. Raises NotYours, TransferError."""
    with transaction.atomic():
        batch = _locked(batch, _State.OPEN)
        if batch.ordered_by != actor_name(person) and not person.has_perm(DECIDE):
            raise NotYours("your role does not let you decide about this")
        _decide(batch, _State.REFUSED, "refused", person, reason)


def withdraw(batch: CodeBatch, *, person: User, reason: str) -> None:
    """Let no code of the batch be used any more; what was redeemed stays. Raises TransferError unless it is issued."""
    with transaction.atomic():
        _decide(_locked(batch, _State.ISSUED), _State.WITHDRAWN, "withdrawn", person, reason)


def withdraw_code(code: RedemptionCode, *, person: User, reason: str) -> None:
    """The same for one code, such as one that leaked. Nothing happens twice."""
    with transaction.atomic():
        if RedemptionCode.objects.filter(pk=code.pk, withdrawn_at__isnull=True).update(withdrawn_at=timezone.now()):
            audit.record("code.withdrawn", actor=actor_name(person), target=str(code), reason=reason)


def _check(wanted: Issue, person: User) -> None:
    if wanted.kind not in KINDS or not person.has_perm(PERMISSIONS[wanted.kind]):
        raise NotYours("your role does not let you do this")
    if not wanted.reason.strip():
        raise TransferError("a reason is needed")
    if not (wanted.amount_microcredits > 0 and 0 < wanted.count <= MAX_CODES and 0 < wanted.max_uses <= MAX_USES):
        raise TransferError(f"1 to {MAX_CODES} codes of more than 0 credits, for 1 to {MAX_USES:,} uses each, can be issued")
    if wanted.total_microcredits > MAX_MICROCREDITS:
        raise TransferError(f"more than {credits_text(MAX_MICROCREDITS)} credits cannot be issued")
    if wanted.expires_at is not None and wanted.expires_at <= timezone.now():
        raise TransferError("the time at which it expires must be in the future")
    if CodeBatch.objects.filter(idempotency_key=_key_of(wanted)).exists():
        raise TransferError("this form was sent before, and its codes were shown then; withdraw them if they are lost")
    left = left_today(person)
    if wanted.total_microcredits > left:
        raise NotYours(
            f"these are {credits_text(wanted.total_microcredits)} credits in all; "
            f"your role lets you move {credits_text(left)} more today"
        )


def _key_of(wanted: Issue) -> str:
    return f"staff:{wanted.token}"


def _locked(batch: CodeBatch, state: CodeBatch.State) -> CodeBatch:
    """The row, which nobody else changes until the transaction ends. Raises TransferError if it is in another state."""
    current = CodeBatch.objects.select_for_update().get(pk=batch.pk)
    if current.state != state:
        raise TransferError(f"its state is another one: {current.get_state_display().lower()}")
    return current


def _decide(batch: CodeBatch, state: CodeBatch.State, verb: str, person: User, reason: str) -> None:
    """The row says who decided last, the audit trail who did before."""
    batch.state = state
    batch.decided_by, batch.decided_at = actor_name(person), timezone.now()
    batch.decision_reason = "" if state == _State.ISSUED else reason
    batch.save()
    _record(verb, batch, person, reason)


def _record(verb: str, batch: CodeBatch, person: User, reason: str) -> None:
    details = {
        "batch": batch.public_id,
        "kind": batch.kind,
        "amount_microcredits": batch.amount_microcredits,
        "count": batch.count,
        "max_uses": batch.max_uses,
    }
    audit.record(f"codes.{verb}", actor=actor_name(person), target=batch.public_id, reason=reason, details=details)


# A workspace


def redeem(workspace: Workspace, text: str, *, actor: str) -> Redemption:
    """Give the workspace the credit of a code, once. Raises CodeRefused, TooManyWrongCodes."""
    if len(text) > _LONGEST or len(digits := text.upper().translate(_MISREAD)) != _LENGTH or not set(digits) <= set(_DIGITS):
        raise CodeRefused("A code has four groups of five letters and digits. Check that none is missing.")
    with transaction.atomic():
        # What happens at once in one workspace comes here one after the other, so that each sees what was before it.
        Account.objects.select_for_update().get(workspace=workspace)
        now = timezone.now()
        if _is_too_often(workspace, actor, now):
            raise TooManyWrongCodes("Too many wrong codes were entered. Try again in an hour.")
        code = (
            RedemptionCode.objects.select_for_update(of=("self",))
            .select_related("batch")
            .filter(digest=_digest(digits))
            .first()
        )
        if code is not None:
            return _redeem(workspace, code, actor, now)
        audit.record(_WRONG, actor=actor, workspace=workspace)
    raise CodeRefused(
        f"This code is not known. Compare it letter by letter. After {WRONG_CODES_ALLOWED} wrong codes you have to wait."
    )


def _redeem(workspace: Workspace, code: RedemptionCode, actor: str, now: datetime) -> Redemption:
    batch = code.batch
    used = Redemption.objects.filter(code=code, workspace=workspace).first()
    if used is not None:
        raise CodeRefused(f"This workspace has used this code already, on {used.created_at:%-d %b %Y}.")
    if batch.state == _State.OPEN:
        raise CodeRefused("This code is not good yet: staff have to release it. Try again later.")
    if batch.state != _State.ISSUED or code.withdrawn_at is not None:
        raise CodeRefused("This code was withdrawn. Ask whoever gave it to you.")
    if batch.expires_at is not None and batch.expires_at <= now:
        raise CodeRefused(f"This code ended on {batch.expires_at:%-d %b %Y}.")
    if not RedemptionCode.objects.filter(pk=code.pk, uses__lt=F("max_uses")).update(uses=F("uses") + 1):
        raise CodeRefused("This code was used already." if code.max_uses == 1 else "All uses of this code are taken.")
    try:
        entry = workspaces.transfer_credits(
            workspace,
            batch.amount_microcredits,
            kind=Entry.Kind(batch.kind),
            idempotency_key=f"code:{code.pk}:{workspace.public_id}",
            actor=actor,
            reason=str(code),
        )
    except TransferError as error:
        raise CodeRefused(f"This code cannot be used here: {error}.") from error
    return Redemption.objects.create(code=code, workspace=workspace, entry=entry, redeemed_by=actor[:160])


def _is_too_often(workspace: Workspace, actor: str, now: datetime) -> bool:
    recent = AuditEvent.objects.filter(action=_WRONG, created_at__gt=now - WRONG_CODES_WITHIN)
    return recent.filter(Q(workspace=workspace) | Q(actor=actor[:160])).count() >= WRONG_CODES_ALLOWED


def _new_text() -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(_LENGTH))


def _grouped(text: str) -> str:
    return "-".join(text[start : start + _GROUP] for start in range(0, _LENGTH, _GROUP))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
