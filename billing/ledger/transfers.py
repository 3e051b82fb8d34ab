"""Credit that moves without a request: top-ups, grants, refunds, adjustments. Used by commands, staff and payments.

Each is one entry in one transaction under the lock of the workspace's account, named by an idempotency key that the
caller chooses (a payment's id, say): the same transfer asked again returns the entry it made the first time. Synchronous,
on Django's connection. Nothing here decides who may transfer; callers do, and they keep the audit.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import F

from billing.models import Account, Entry, Workspace
from billing.pricing import MAX_MICROCREDITS, credits_text

# Settlements name their entries so; a transfer of that name would keep one from being booked.
_RESERVED_PREFIX = "usage:"
_TEXT_LIMITS = {"idempotency_key": 255, "actor": 160, "reason": 500}


class TransferError(Exception):
    """A transfer that cannot be made; the message says why in words for staff. Nothing was written."""


class TransferConflict(TransferError):
    """The idempotency key already names another transfer."""


class CreditInUse(TransferError):
    """The workspace does not have this much credit that is not held by requests in flight."""


class _Mandate(NamedTuple):
    """Why an entry is made: what it shares with every other of its kind."""

    kind: Entry.Kind
    idempotency_key: str
    actor: str
    reason: str
    expires_at: datetime | None = None


def open_account(workspace: Workspace) -> Account:
    """The workspace's account, made empty at the first call, with the internal accounts if the database has none."""
    for kind in (Account.Kind.WORLD, Account.Kind.REVENUE, Account.Kind.PROMO):
        Account.objects.get_or_create(kind=kind, workspace=None)
    return Account.objects.get_or_create(workspace=workspace, defaults={"kind": Account.Kind.WORKSPACE})[0]


def top_up(
    workspace: Workspace,
    amount_microcredits: int,
    *,
    idempotency_key: str,
    actor: str,
    reason: str,
    expires_at: datetime | None = None,
) -> Entry:
    """Credit that was paid for."""
    mandate = _Mandate(Entry.Kind.TOP_UP, idempotency_key, actor, reason, expires_at)
    return _transfer(workspace, amount_microcredits, Account.Kind.WORLD, mandate)


def grant(
    workspace: Workspace,
    amount_microcredits: int,
    *,
    idempotency_key: str,
    actor: str,
    reason: str,
    expires_at: datetime | None = None,
) -> Entry:
    """Credit that is given away."""
    mandate = _Mandate(Entry.Kind.GRANT, idempotency_key, actor, reason, expires_at)
    return _transfer(workspace, amount_microcredits, Account.Kind.PROMO, mandate)


def refund(workspace: Workspace, amount_microcredits: int, *, idempotency_key: str, actor: str, reason: str) -> Entry:
    """Credit given back for usage that was charged."""
    mandate = _Mandate(Entry.Kind.REFUND, idempotency_key, actor, reason)
    return _transfer(workspace, amount_microcredits, Account.Kind.REVENUE, mandate)


def adjust(workspace: Workspace, amount_microcredits: int, *, idempotency_key: str, actor: str, reason: str) -> Entry:
    """A correction, up or (a negative amount) down; also how credit leaves when a payment is paid back.

    Raises CreditInUse when fewer credits than that are free.
    """
    mandate = _Mandate(Entry.Kind.ADJUSTMENT, idempotency_key, actor, reason)
    return _transfer(workspace, amount_microcredits, Account.Kind.WORLD, mandate)


def _transfer(workspace: Workspace, amount: int, other_kind: Account.Kind, mandate: _Mandate) -> Entry:
    """Moves `amount` from the internal account to the workspace's; the other way round if it is negative."""
    _check(amount, mandate)
    try:
        with transaction.atomic():
            account = Account.objects.select_for_update().get(workspace=workspace)
            other = Account.objects.get(kind=other_kind, workspace=None)
            debit, credit = (other, account) if amount > 0 else (account, other)
            first = Entry.objects.filter(idempotency_key=mandate.idempotency_key).first()
            if first is not None:
                return _same(first, debit, credit, abs(amount), mandate)
            _check_balance(account, amount)
            Account.objects.filter(pk=account.pk).update(posted_microcredits=F("posted_microcredits") + amount)
            return Entry.objects.create(
                debit_account=debit, credit_account=credit, amount_microcredits=abs(amount), **mandate._asdict()
            )
    except IntegrityError as error:
        # The locks of two workspaces do not exclude each other: both may have looked for the same key.
        raise TransferConflict(f"'{mandate.idempotency_key}' names a transfer of another workspace") from error


def _check(amount: int, mandate: _Mandate) -> None:
    is_negative_allowed = mandate.kind == Entry.Kind.ADJUSTMENT
    if amount == 0 or abs(amount) > MAX_MICROCREDITS or (amount < 0 and not is_negative_allowed):
        raise TransferError(f"{credits_text(amount)} credits cannot be transferred")
    if not mandate.idempotency_key or mandate.idempotency_key.startswith(_RESERVED_PREFIX):
        raise TransferError(f"an idempotency key is needed, and must not begin with '{_RESERVED_PREFIX}'")
    if not mandate.actor.strip() or not mandate.reason.strip():
        raise TransferError("an actor and a reason are needed")
    for name, limit in _TEXT_LIMITS.items():
        if len(getattr(mandate, name)) > limit:
            raise TransferError(f"{name} may have at most {limit} characters")


def _check_balance(account: Account, amount: int) -> None:
    """What the database's constraints refuse, said in words; the account is locked, so the answer holds."""
    free = account.posted_microcredits - account.held_microcredits
    if -amount > free:
        raise CreditInUse(f"{credits_text(free)} credits are free; {credits_text(account.held_microcredits)} are held")
    if account.posted_microcredits + amount > MAX_MICROCREDITS:
        raise TransferError(f"a balance of more than {credits_text(MAX_MICROCREDITS)} credits cannot be kept")


def _same(first: Entry, debit: Account, credit: Account, amount: int, mandate: _Mandate) -> Entry:
    made = (first.kind, first.debit_account_id, first.credit_account_id, first.amount_microcredits, first.expires_at)
    if made != (mandate.kind, debit.pk, credit.pk, amount, mandate.expires_at):
        raise TransferConflict(f"'{mandate.idempotency_key}' names another transfer: {first}")
    return first
