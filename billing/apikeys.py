"""API keys: grammar, checksum, look-up, and who a key speaks for.

A key is `inf_`, 32 random base62 characters, and the CRC-32 of all that in 6 more. The checksum lets this module, and
scanners of leaked secrets, refuse a mistyped key without a query; the secret is the random part. Only the SHA-256 of a
key is stored, so its text exists once: in what `mint` returns. It never stands in an exception, a log line or a row.

Unknown, revoked and malformed keys are refused by equal bytes. `KeyRing` answers from memory for up to
`settings.API_KEY_CACHE_S`; that is no security decision, because the hold statement checks the key again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
import time
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import Error as DatabaseFault
from django.db import close_old_connections, transaction
from django.utils import timezone

from billing import audit
from billing.errors import (
    AddressNotAllowed,
    ExpiredApiKey,
    InsufficientScope,
    InvalidApiKey,
    LedgerUnavailable,
    MissingApiKey,
    WorkspaceSuspended,
)
from billing.models import ApiKey, Workspace
from billing.models.keys import default_scopes
from infery_site.ids import base62, random_base62

PREFIX = "inf_"
SCOPES = frozenset({"chat", "files:read", "files:write", "usage:read", "keys:manage", "workspace:manage"})
MANAGEMENT_SCOPES = frozenset({"keys:manage", "workspace:manage"})

_RANDOM_DIGITS = 32
_CHECKSUM_DIGITS = 6
_NAME_LENGTH = 120
# The pattern has one length only, so a header of any size costs no more than a key.
_AUTHORIZATION = re.compile(rb"Bearer (inf_[0-9A-Za-z]{32})([0-9A-Za-z]{6})")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
HeaderValues = Sequence[bytes] | Sequence[str]


class Principal(msgspec.Struct, frozen=True):
    """Who is calling: a key that was found active. The hold statement checks the key again, so this may be a second old.

    `allowed_models` is None for every model. `expires_at` is a Unix time in seconds.
    """

    api_key_id: int
    workspace_id: int
    account_id: int
    workspace_public_id: str
    scopes: frozenset[str]
    allowed_models: frozenset[str] | None = None
    allowed_networks: tuple[Network, ...] = ()
    max_requests_per_minute: int | None = None
    max_concurrent_requests: int | None = None
    expires_at: float | None = None


Refusal = type[InvalidApiKey] | type[WorkspaceSuspended] | type[ExpiredApiKey]
Found = Principal | Refusal


class KeyTerms(msgspec.Struct, frozen=True):
    """What a new key may do. None leaves the field at its default: the usual scopes, every model."""

    scopes: Sequence[str] | None = None
    allowed_models: Sequence[str] | None = None
    allowed_addresses: Sequence[str] = ()
    max_requests_per_minute: int | None = None
    max_concurrent_requests: int | None = None
    expires_at: datetime | None = None


def new_key() -> str:
    body = PREFIX + random_base62(_RANDOM_DIGITS)
    return body + base62(zlib.crc32(body.encode()), _CHECKSUM_DIGITS)


def digest_of(key_text: str) -> str:
    """How a key is stored and found."""
    return hashlib.sha256(key_text.encode()).hexdigest()


def parse_authorization(values: HeaderValues) -> str:
    """The digest of the key in the values of all `Authorization` headers of a request, without a query.

    Raises MissingApiKey without a header, InvalidApiKey for a second header, any other scheme or form, or a key whose
    checksum is wrong.
    """
    if not values:
        raise MissingApiKey
    value = values[0]
    match = _AUTHORIZATION.fullmatch(value if isinstance(value, bytes) else value.encode("ascii", "replace"))
    if len(values) > 1 or match is None:
        raise InvalidApiKey
    body, checksum = match.groups()
    if base62(zlib.crc32(body), _CHECKSUM_DIGITS).encode() != checksum:
        raise InvalidApiKey
    return hashlib.sha256(body + checksum).hexdigest()


def checked_name(text: str) -> str:
    """A name that people give to a key or a workspace. Raises ValidationError."""
    name = text.strip()
    if not 0 < len(name) <= _NAME_LENGTH:
        raise ValidationError(f"A name has 1 to {_NAME_LENGTH} characters.")
    if not name.isprintable():
        raise ValidationError("A name holds printable characters only.")
    return name


def checked_scopes(scopes: Sequence[str]) -> list[str]:
    unknown = sorted(set(scopes) - SCOPES)
    if unknown:
        raise ValidationError(f"Unknown scope: {', '.join(unknown)}.")
    if not scopes:
        raise ValidationError("A key needs at least one scope.")
    if "chat" in scopes and not MANAGEMENT_SCOPES.isdisjoint(scopes):
        raise ValidationError("A key that manages keys or the workspace cannot chat; make two keys.")
    return sorted(set(scopes))


def checked_addresses(addresses: Sequence[str]) -> list[str]:
    """Addresses and networks in their usual writing. Raises ValidationError."""
    try:
        return [str(ipaddress.ip_network(address.strip(), strict=False)) for address in addresses]
    except ValueError as error:
        raise ValidationError("An address list holds addresses such as 203.0.113.7 or networks such as 10.0.0.0/8.") from error


def checked_models(models: Sequence[str]) -> list[str]:
    if not models:
        raise ValidationError('A key needs at least one model; "*" stands for every model.')
    return sorted(set(models))


def mint(workspace: Workspace, name: str, *, actor: str, terms: KeyTerms | None = None) -> tuple[ApiKey, str]:
    """A new key of a workspace: its row, and its text, which nobody can show again. Raises ValidationError."""
    terms = terms or KeyTerms()
    key_text = new_key()
    with transaction.atomic():
        key = ApiKey(
            workspace=workspace,
            name=checked_name(name),
            digest=digest_of(key_text),
            hint=f"{key_text[:8]}...{key_text[-4:]}",
            scopes=default_scopes() if terms.scopes is None else checked_scopes(terms.scopes),
            allowed_models=["*"] if terms.allowed_models is None else checked_models(terms.allowed_models),
            allowed_addresses=checked_addresses(terms.allowed_addresses),
            max_requests_per_minute=terms.max_requests_per_minute,
            max_concurrent_requests=terms.max_concurrent_requests,
            expires_at=terms.expires_at,
        )
        if is_expired(key):
            raise ValidationError("The expiry of a new key lies in the future.")
        key.full_clean()
        key.save()
        audit.record("api_key.created", actor=actor, workspace=workspace, target=key.hint, details={"name": key.name})
    return key, key_text


def revoke(key: ApiKey, *, actor: str, reason: str = "") -> bool:
    """End a key for good, everywhere within a second. False if it had been revoked before."""
    now = timezone.now()
    with transaction.atomic():
        if not ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=now):
            return False
        audit.record("api_key.revoked", actor=actor, workspace=key.workspace, target=key.hint, reason=reason)
    key.revoked_at = now
    return True


def is_expired(key: ApiKey) -> bool:
    return key.expires_at is not None and key.expires_at <= timezone.now()


def find(digest: str) -> Found:
    """Whom a digest stands for, or why it is refused. One query; expiry, scope and address are for `admitted` to judge."""
    key = ApiKey.objects.select_related("workspace__account").filter(digest=digest).first()
    if key is None or not hmac.compare_digest(key.digest, digest) or key.revoked_at is not None:
        return InvalidApiKey
    if is_expired(key):
        return ExpiredApiKey
    if key.workspace.state != Workspace.State.ACTIVE:
        return WorkspaceSuspended
    return Principal(
        api_key_id=key.pk,
        workspace_id=key.workspace_id,
        account_id=key.workspace.account.pk,
        workspace_public_id=key.workspace.public_id,
        scopes=frozenset(key.scopes),
        allowed_models=None if "*" in key.allowed_models else frozenset(key.allowed_models),
        allowed_networks=tuple(ipaddress.ip_network(network, strict=False) for network in key.allowed_addresses),
        max_requests_per_minute=key.max_requests_per_minute,
        max_concurrent_requests=key.max_concurrent_requests,
        expires_at=key.expires_at.timestamp() if key.expires_at else None,
    )


def admitted(found: Found, *, scope: str | None, address: str | None) -> Principal:
    """The principal, if its key is in time and may do `scope` (None: anything) from `address`. Raises the refusal."""
    if not isinstance(found, Principal):
        raise found
    if found.expires_at is not None and found.expires_at <= time.time():
        raise ExpiredApiKey
    if scope is not None and scope not in found.scopes:
        raise InsufficientScope(scope)
    if found.allowed_networks and not _is_listed(address, found.allowed_networks):
        raise AddressNotAllowed
    return found


def _is_listed(address: str | None, networks: tuple[Network, ...]) -> bool:
    try:
        caller = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(caller, ipaddress.IPv6Address) and caller.ipv4_mapped:
        caller = caller.ipv4_mapped
    return any(caller in network for network in networks)


class _Entry(msgspec.Struct, frozen=True):
    found: Found
    stale_at: float


class KeyRing:
    """The keys one process has seen lately, refusals included; at most `max_entries`, the oldest leave first.

    For one event loop. `clock` counts seconds and never goes back.
    """

    def __init__(
        self,
        *,
        ttl_s: float | None = None,
        max_entries: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl_s = settings.API_KEY_CACHE_S if ttl_s is None else ttl_s
        self._max_entries = max_entries
        self._clock = clock
        # In the order of their look-ups: the first entry is the first to become stale.
        self._entries: dict[str, _Entry] = {}
        self._look_ups: dict[str, asyncio.Task[Found]] = {}

    async def principal(self, authorization: HeaderValues, *, scope: str | None, address: str | None) -> Principal:
        """Who calls, from the values of all `Authorization` headers and the caller's network address.

        Does not wait when the key was seen within the time to live. Raises the refusals of `billing.errors`, among
        them LedgerUnavailable if the database cannot be asked.
        """
        digest = parse_authorization(authorization)
        entry = self._entries.get(digest)
        if entry is not None and entry.stale_at > self._clock():
            return admitted(entry.found, scope=scope, address=address)
        return admitted(await self._look_up(digest), scope=scope, address=address)

    async def _look_up(self, digest: str) -> Found:
        """One query for all who ask for this digest now; it goes on when one of them is cancelled."""
        look_up = self._look_ups.get(digest)
        if look_up is None:
            look_up = self._look_ups[digest] = asyncio.create_task(self._find(digest))
        try:
            return await asyncio.shield(look_up)
        except DatabaseFault as error:
            raise LedgerUnavailable from error

    async def _find(self, digest: str) -> Found:
        # Counted from before the query, so that no answer is older than the time to live.
        asked_at = self._clock()
        try:
            found = await sync_to_async(_find_in_thread)(digest)
        finally:
            del self._look_ups[digest]
        self._remember(digest, _Entry(found, asked_at + self._ttl_s))
        return found

    def _remember(self, digest: str, entry: _Entry) -> None:
        self._entries.pop(digest, None)
        self._entries[digest] = entry
        now = self._clock()
        while True:
            oldest = next(iter(self._entries))
            if oldest == digest or (len(self._entries) <= self._max_entries and self._entries[oldest].stale_at > now):
                return
            del self._entries[oldest]


def _find_in_thread(digest: str) -> Found:
    """`find` outside a request of Django's, which would have cared for the connection."""
    close_old_connections()
    try:
        return find(digest)
    finally:
        close_old_connections()
