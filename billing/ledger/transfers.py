"""Credit that moves without a request: top-ups, grants, plan credits, refunds, adjustments, and what expires.

Used by commands, staff, payments and housekeeping. Each is one entry in one transaction under the lock of the workspace's
account, named by an idempotency key that the caller chooses (a payment's id, say): the same transfer asked again returns
the entry it made the first time. What comes in is a lot; with every transfer the lots are written as they are then.
Synchronous, on Django's connection. Nothing here decides who may transfer; callers do, and they keep the audit.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import F, Max, Sum
from django.utils import timezone

from billing.ledger.lotbook import LotBook, live, open_requests
from billing.ledger.lots import Spending, above, expired, spend, take
from billing.models import Account, CreditLot, Entry, UsageRecord, Workspace
from billing.pricing import MAX_MICROCREDITS, credits_text

# Entries of these kinds are named so, and no others: a transfer of that name would keep one from being booked.
_RESERVED_PREFIXES = {Entry.Kind.USAGE: "usage:", Entry.Kind.PLAN: "plan:", Entry.Kind.EXPIRY: "expiry:"}
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
    generation: str = ""


def open_account(workspace: Workspace) -> Account:
    """The workspace's account, made empty at the first call, with the internal accounts if the database has none."""
    for kind in (Account.Kind.WORLD, Account.Kind.REVENUE, Account.Kind.PROMO):
        Account.objects.get_or_create(kind=kind, workspace=None)
    return Account.objects.get_or_create(workspace=workspace, defaults={"kind": Account.Kind.WORKSPACE})[0]


def top_up(workspace: Workspace, amount_microcredits: int, *, idempotency_key: str, actor: str, reason: str) -> Entry:
    """Credit that was paid for. It never expires."""
    mandate = _Mandate(Entry.Kind.TOP_UP, idempotency_key, actor, reason)
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


def renew_plan(
    workspace: Workspace, amount_microcredits: int, *, period: str, actor: str, reason: str, expires_at: datetime
) -> Entry:
    """The plan credits of one period, which `period` names; once for each."""
    idempotency_key = f"{_RESERVED_PREFIXES[Entry.Kind.PLAN]}{workspace.public_id}:{period}"
    mandate = _Mandate(Entry.Kind.PLAN, idempotency_key, actor, reason, expires_at)
    return _transfer(workspace, amount_microcredits, Account.Kind.PROMO, mandate)


def refund(
    workspace: Workspace, amount_microcredits: int, *, idempotency_key: str, actor: str, reason: str, generation: str
) -> Entry:
    """Credit given back for usage that was charged, of the request that `generation` names: never more than its charge in all."""
    mandate = _Mandate(Entry.Kind.REFUND, idempotency_key, actor, reason, generation=generation)
    return _transfer(workspace, amount_microcredits, Account.Kind.REVENUE, mandate)


def adjust(workspace: Workspace, amount_microcredits: int, *, idempotency_key: str, actor: str, reason: str) -> Entry:
    """A correction, up or (a negative amount) down; also how credit leaves when a payment is paid back.

    What leaves is taken like what is spent: first from what expires first. Raises CreditInUse when fewer credits than
    that are free.
    """
    mandate = _Mandate(Entry.Kind.ADJUSTMENT, idempotency_key, actor, reason)
    return _transfer(workspace, amount_microcredits, Account.Kind.WORLD, mandate)


def expire(account_id: int, now: datetime, *, actor: str) -> list[Entry]:
    """Take back what has expired by `now`: one entry for each lot of which something is left.

    What running requests hold stays, for them; a later call takes what they did not need. Nothing happens twice.
    """
    with transaction.atomic():
        account = Account.objects.select_for_update().get(pk=account_id, kind=Account.Kind.WORKSPACE)
        book = LotBook(account, now)
        amounts = expired(book.lots, open_requests(account.pk), now)
        return _take_back(account, book, amounts, actor, "expired")


def limit_rollover(workspace: Workspace, ceiling_microcredits: int, now: datetime, *, actor: str) -> list[Entry]:
    """Take back what is left of plan credits beyond the ceiling, less what running requests hold of it."""
    with transaction.atomic():
        account = Account.objects.select_for_update().get(workspace=workspace)
        book = LotBook(account, now)
        ids = set(live(account.pk).filter(entry__kind=Entry.Kind.PLAN).values_list("pk", flat=True))
        amounts = above(book.lots, open_requests(account.pk), now, ids, ceiling_microcredits)
        return _take_back(account, book, amounts, actor, "more than rolls over")


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
            if mandate.kind == Entry.Kind.REFUND:
                _check_refund(workspace, amount, mandate.generation)
            now = timezone.now()
            book = LotBook(account, now)
            entry = Entry.objects.create(
                debit_account=debit, credit_account=credit, amount_microcredits=abs(amount), **mandate._asdict()
            )
            if amount > 0:
                CreditLot.objects.create(entry=entry, account=account, expires_at=mandate.expires_at, left_microcredits=amount)
            book.write(book.lots if amount > 0 else spend(book.lots, [Spending(-amount, now)]))
            _post(account, amount, entry.pk)
            return entry
    except IntegrityError as error:
        # The locks of two workspaces do not exclude each other: both may have looked for the same key.
        raise TransferConflict(f"'{mandate.idempotency_key}' names a transfer of another workspace") from error


def _check(amount: int, mandate: _Mandate) -> None:
    is_negative_allowed = mandate.kind == Entry.Kind.ADJUSTMENT
    if amount == 0 or abs(amount) > MAX_MICROCREDITS or (amount < 0 and not is_negative_allowed):
        raise TransferError(f"{credits_text(amount)} credits cannot be transferred")
    reserved = tuple(prefix for kind, prefix in _RESERVED_PREFIXES.items() if kind != mandate.kind)
    if not mandate.idempotency_key or mandate.idempotency_key.startswith(reserved):
        raise TransferError(f"an idempotency key is needed, and must not begin with {' or '.join(reserved)}")
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


def _check_refund(workspace: Workspace, amount: int, generation: str) -> None:
    """The account is locked, so of two refunds at once the later one sees the earlier."""
    record = UsageRecord.objects.filter(generation=generation, workspace=workspace).first()
    if record is None:
        raise TransferError("a refund names the request that it is of")
    refunds = Entry.objects.filter(kind=Entry.Kind.REFUND, generation=generation)
    left = record.charged_microcredits - (refunds.aggregate(sum=Sum("amount_microcredits"))["sum"] or 0)
    if amount > left:
        raise TransferError(f"{credits_text(left)} credits of this request can be refunded")


def _take_back(account: Account, book: LotBook, amounts: Mapping[int, int], actor: str, why: str) -> list[Entry]:
    """So much of each lot goes back to where it came from. The lots are written in any case, as they are now."""
    left = {lot.id: lot.left for lot in book.lots}
    origins = Entry.objects.in_bulk(amounts)
    entries = [
        Entry.objects.create(
            debit_account=account,
            credit_account_id=origins[lot_id].debit_account_id,
            amount_microcredits=amount,
            kind=Entry.Kind.EXPIRY,
            # What is left of a lot only falls, so nothing can be taken from the same rest twice.
            idempotency_key=f"{_RESERVED_PREFIXES[Entry.Kind.EXPIRY]}{lot_id}:{left[lot_id]}",
            actor=actor,
            reason=f"{origins[lot_id].get_kind_display()} of {origins[lot_id].created_at:%Y-%m-%d}: {why}",
        )
        for lot_id, amount in amounts.items()
    ]
    book.write(take(book.lots, amounts))
    # The account is locked, so entries of it that are to come get higher ids.
    newest = Entry.objects.aggregate(id=Max("pk"))["id"] or 0
    _post(account, -sum(amounts.values()), newest)
    return entries


def _post(account: Account, change: int, newest_entry: int) -> None:
    """Change the balance, and say that the lots are written as of this entry."""
    Account.objects.filter(pk=account.pk).update(
        posted_microcredits=F("posted_microcredits") + change, lots_as_of_entry=newest_entry
    )


def _same(first: Entry, debit: Account, credit: Account, amount: int, mandate: _Mandate) -> Entry:
    moved = (first.kind, first.debit_account_id, first.credit_account_id, first.amount_microcredits)
    named = (first.expires_at, first.generation)
    if moved != (mandate.kind, debit.pk, credit.pk, amount) or named != (mandate.expires_at, mandate.generation):
        raise TransferConflict(f"'{mandate.idempotency_key}' names another transfer: {first}")
    return first
