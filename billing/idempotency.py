"""Idempotency keys: a request that is repeated with the same Idempotency-Key runs once and is paid once.

The first request claims the key for its workspace and route. While it runs, a repeat is told to come back; when it ended
with a complete 2xx answer, repeats get the stored bytes for 24 hours; when it ended otherwise, the key is given back and
a repeat runs anew. The same key with another body is refused.

Invariants: of any number of requests at once, one gets the Claim. A claim is a lease on the database's clock that its owner
renews, so that the key of a process that was killed comes back; a claim that was lost to another process stores nothing any
more. A key comes back from a dead claim only when it is certain that its request is not paid: with a charge and no answer,
repeats are told so for the rest of the 24 hours. What is stored is encrypted for its row.

The database is reached from threads of this module's own; only requests with the header come here.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, ParamSpec, Protocol, TypeVar

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from billing.errors import (
    IdempotencyInProgress,
    IdempotencyMismatch,
    IdempotencyResultLost,
    InvalidIdempotencyKey,
    LedgerUnavailable,
)
from billing.models import Hold, IdempotentReply, UsageRecord
from infery_site import secretbox
from infery_site.errors import Header
from infery_site.ids import random_base62
from infery_site.patience import in_time

KEPT_FOR = timedelta(hours=24)
MAX_BODY_BYTES = 5 * 1024 * 1024

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_MAX_ATTEMPTS = 10
_PURGE_BATCH_ROWS = 200

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="idempotency")
_left: set[asyncio.Task[None]] = set()


class Caller(Protocol):
    """Who repeats a request: a Principal, say."""

    @property
    def workspace_id(self) -> int: ...


class Replay(msgspec.Struct, frozen=True):
    """The answer that the first request got."""

    status: int
    headers: tuple[Header, ...]
    body: bytes


class _Lease(msgspec.Struct, frozen=True):
    """Which row was claimed, and the token that tells this claim from any later one."""

    workspace_id: int
    key_digest: str
    token: str

    @property
    def context(self) -> str:
        return _context(self.workspace_id, self.key_digest)


class Claim:
    """The right to run a request, renewed until `keep`, `release` or `abandon`; one of them must end it.

    What a request makes in the database is made in one transaction with `store`, so that there is never the one without the
    other, whenever the process dies; `abandon` follows.
    """

    def __init__(self, lease: _Lease) -> None:
        self._lease = lease
        self._renewal = asyncio.create_task(_renew_while_running(lease))

    async def confirm(self) -> None:
        """Renews the claim at once, before what cannot be taken back: a process that stood still may have lost it.

        Raises IdempotencyInProgress if it is another's by now; LedgerUnavailable without a database.
        """
        try:
            is_ours = await in_time(_in_thread(_renew, self._lease))
        except (OperationalError, InterfaceError) as error:
            raise LedgerUnavailable from error
        if not is_ours:
            raise IdempotencyInProgress

    async def keep(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Stores a complete answer for repeats. One that is not 2xx is released, one above MAX_BODY_BYTES given up.

        A database that fails is logged: the answer was given and paid, and the lease ends by itself.
        """
        if not 200 <= status < 300:
            await self.release()
            return
        self._renewal.cancel()
        if len(body) > MAX_BODY_BYTES:
            await _logged(_give_up, self._lease)
        else:
            await _logged(_keep, self._lease, status, list(headers), body)

    def store(self, status: int, body: bytes) -> None:
        """Stores the answer in the transaction of this thread. Raises IdempotencyInProgress if the claim is another's by now."""
        if not _keep(self._lease, status, [], body):
            raise IdempotencyInProgress

    async def release(self) -> None:
        """Gives the key back, so that a repeat runs anew. Does nothing to a stored answer."""
        self._renewal.cancel()
        await _logged(_release, self._lease)

    def abandon(self) -> None:
        """Leaves the key to its lease: what it was claimed for may be paid, and a repeat must find out whether it is."""
        self._renewal.cancel()


async def claim(caller: Caller, *, route: str, key: str, body: bytes, generation: str = "") -> Claim | Replay:
    """Claim `key` for the caller's workspace and `route`, or give the answer it already has. `body` is the raw request.

    `generation` is what the request will be charged as, if it may be.

    Whoever claims shows the answer to everybody who may ask for `route`: where that is not the whole workspace, the route
    names the caller.

    Raises InvalidIdempotencyKey, IdempotencyMismatch, IdempotencyInProgress, IdempotencyResultLost; LedgerUnavailable
    without a database.
    """
    if _KEY.fullmatch(key) is None:
        raise InvalidIdempotencyKey
    work = asyncio.ensure_future(_in_thread(_claim, caller.workspace_id, route, key, body, generation))
    try:
        outcome = await in_time(asyncio.shield(work))
    except (OperationalError, InterfaceError) as error:
        _leave(work)
        raise LedgerUnavailable from error
    except asyncio.CancelledError:
        await _leave(work)
        raise
    return Claim(outcome) if isinstance(outcome, _Lease) else outcome


def _leave(work: asyncio.Future[_Lease | Replay]) -> asyncio.Task[None]:
    """Gives back what a thread may still claim: nobody works on it, and it would keep the caller's next try waiting."""

    async def give_back() -> None:
        await asyncio.wait({work})
        if not work.cancelled() and work.exception() is None and isinstance(lease := work.result(), _Lease):
            await _logged(_release, lease)

    task = asyncio.create_task(give_back())
    _left.add(task)
    task.add_done_callback(_left.discard)
    return task


def purge(before: datetime) -> int:
    """Delete what was first asked before `before`; in batches, so that no writer waits long. Gives the number of rows."""
    rows = IdempotentReply.objects.filter(created_at__lt=before)
    deleted = 0
    while ids := list(rows.values_list("pk", flat=True)[:_PURGE_BATCH_ROWS]):
        deleted += rows.filter(pk__in=ids).delete()[0]
    return deleted


def _claim(workspace_id: int, route: str, key: str, body: bytes, generation: str) -> _Lease | Replay:
    """Each round tries one conditional statement; when another request was faster, the next round sees what it did."""
    key_digest = hashlib.sha256(f"{route}\n{key}".encode()).hexdigest()
    body_digest = hashlib.sha256(body).hexdigest()
    lease = _Lease(workspace_id, key_digest, random_base62(22))
    fresh = IdempotentReply(
        workspace_id=workspace_id,
        key_digest=key_digest,
        body_digest=body_digest,
        lease_token=lease.token,
        lease_expires_at=_lease_end(),
        generation=generation,
        created_at=Now(),
    )
    for _ in range(_MAX_ATTEMPTS):
        IdempotentReply.objects.bulk_create([fresh], ignore_conflicts=True)
        row = _judged(IdempotentReply.objects.filter(workspace_id=workspace_id, key_digest=key_digest)).first()
        if row is None:
            continue
        if row.lease_token == lease.token:
            return lease
        if row.is_young and (replay := _answered(row, body_digest)) is not None:
            return replay
        if _take_over(row, fresh):
            return lease
    raise IdempotencyInProgress


def _answered(row: Any, body_digest: str) -> Replay | None:
    """The answer that a repeat gets; None where the key has come back, because its request died and is not paid."""
    is_another = row.body_digest != body_digest
    if row.is_complete or row.is_leased or _is_held(row):
        if is_another:
            raise IdempotencyMismatch
        if not row.is_complete:
            raise IdempotencyInProgress
        if (replay := _replay(row)) is not None:
            return replay
    if _is_charged(row):
        raise IdempotencyMismatch if is_another else IdempotencyResultLost(row.generation)
    return None


def _judged(rows: QuerySet[IdempotentReply]) -> QuerySet[Any]:
    """The rows with what the database's clock says of them: neither older than 24 hours, nor the claim of a dead request."""
    return rows.annotate(
        is_young=_wrapped(Q(created_at__gt=Now() - KEPT_FOR)), is_leased=_wrapped(Q(lease_expires_at__gt=Now()))
    )


def _wrapped(condition: Q) -> ExpressionWrapper[Q]:
    return ExpressionWrapper(condition, output_field=BooleanField())


def _is_charged(row: IdempotentReply) -> bool:
    records = UsageRecord.objects.filter(generation=row.generation, workspace_id=row.workspace_id)
    return bool(row.generation) and records.filter(charged_microcredits__gt=0).exists()


def _is_held(row: IdempotentReply) -> bool:
    """Whether a settlement may still come: of a process that is only slow, or that waits for the database."""
    return bool(row.generation) and Hold.objects.filter(generation=row.generation, state=Hold.State.OPEN).exists()


def _take_over(row: IdempotentReply, fresh: IdempotentReply) -> bool:
    """Put `fresh` in place of `row`, if nobody has claimed, renewed or completed it since it was seen."""
    as_seen = IdempotentReply.objects.filter(pk=row.pk, lease_token=row.lease_token, is_complete=row.is_complete)
    is_over = Q(is_complete=True) | Q(lease_expires_at__lte=Now()) | Q(created_at__lte=Now() - KEPT_FOR)
    return bool(
        as_seen.filter(is_over).update(
            body_digest=fresh.body_digest,
            lease_token=fresh.lease_token,
            lease_expires_at=fresh.lease_expires_at,
            generation=fresh.generation,
            is_complete=False,
            status=0,
            headers=[],
            body_encrypted=b"",
            created_at=fresh.created_at,
        )
    )


def _replay(row: IdempotentReply) -> Replay | None:
    """The stored answer. None if its encryption key is gone: then the request runs anew, unless it was paid."""
    try:
        body = secretbox.decrypt(row.body_encrypted, context=_context(row.workspace_id, row.key_digest))
    except secretbox.SecretError:
        logger.warning("A stored idempotent reply does not open with any of the FIELD_ENCRYPTION_KEYS")
        return None
    return Replay(row.status, tuple((name, value) for name, value in row.headers), body)


def _keep(lease: _Lease, status: int, headers: list[Header], body: bytes) -> bool:
    return bool(
        _claimed(lease).update(
            is_complete=True,
            status=status,
            headers=[list(header) for header in headers],
            body_encrypted=secretbox.encrypt(body, context=lease.context),
        )
    )


def _release(lease: _Lease) -> None:
    _claimed(lease).delete()


def _give_up(lease: _Lease) -> None:
    _claimed(lease).update(lease_expires_at=Now())


def _renew(lease: _Lease) -> bool:
    return bool(_claimed(lease).update(lease_expires_at=_lease_end()))


def _claimed(lease: _Lease) -> QuerySet[IdempotentReply]:
    """The row, while it belongs to this claim."""
    return IdempotentReply.objects.filter(
        workspace_id=lease.workspace_id, key_digest=lease.key_digest, lease_token=lease.token, is_complete=False
    )


def _lease_end() -> Combinable:
    return Now() + timedelta(seconds=settings.IDEMPOTENCY_LEASE_S)


def _context(workspace_id: int, key_digest: str) -> str:
    return f"idempotent-reply:{workspace_id}:{key_digest}"


async def _renew_while_running(lease: _Lease) -> None:
    is_ours = True
    while is_ours:
        await asyncio.sleep(settings.IDEMPOTENCY_LEASE_S / 3)
        with suppress(DatabaseError, InterfaceError):
            is_ours = await in_time(_in_thread(_renew, lease))


async def _logged(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        await in_time(_in_thread(work, *args, **kwargs))
    except (DatabaseError, InterfaceError):
        logger.exception("The end of a request with an Idempotency-Key could not be noted; its lease ends by itself")


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a database thread, with the care for connections that Django gives to its own requests only."""

    def with_sound_connection() -> T:
        close_old_connections()
        try:
            return work(*args, **kwargs)
        finally:
            close_old_connections()

    return await sync_to_async(with_sound_connection, thread_sensitive=False, executor=_threads)()
