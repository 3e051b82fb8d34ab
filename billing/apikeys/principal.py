"""Whom a key speaks for, and whether it may do what is asked."""

from __future__ import annotations

import hmac
import ipaddress
import time

import msgspec
from django.utils import timezone

from billing import quotas
from billing.errors import AddressNotAllowed, ExpiredApiKey, InsufficientScope, InvalidApiKey, WorkspaceSuspended
from billing.models import ApiKey, Workspace

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Principal(msgspec.Struct, frozen=True):
    """Who is calling: a key that was found active. The hold statement checks the key again, so this may be a second old.

    Its limits are those in force, of all layers (`billing.quotas`). `allowed_models` is None for every model. `expires_at`
    is a Unix time in seconds. `owner_role` is what the member whose key it is may do by now; both are None for a key of nobody.
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
    max_tokens_per_minute: int | None = None
    max_tokens_daily: int | None = None
    max_requests_daily: int | None = None
    family_id: int | None = None
    owner_id: int | None = None
    owner_role: str | None = None

    @property
    def counted_id(self) -> int:
        """By whom its requests and tokens are counted: the keys that rolling made one of the other count as one."""
        return self.family_id or self.api_key_id


Refusal = type[InvalidApiKey] | type[WorkspaceSuspended] | type[ExpiredApiKey]
Found = Principal | Refusal


def is_expired(key: ApiKey) -> bool:
    return key.expires_at is not None and key.expires_at <= timezone.now()


def find(digest: str) -> Found:
    """Whom a digest stands for, or why it is refused. One query; expiry, scope and address are for `admitted` to judge."""
    key = ApiKey.objects.select_related("workspace__account", *quotas.KEY_LAYERS).filter(digest=digest).first()
    if key is None or not hmac.compare_digest(key.digest, digest) or key.revoked_at is not None:
        return InvalidApiKey
    if is_expired(key):
        return ExpiredApiKey
    if key.workspace.state != Workspace.State.ACTIVE:
        return WorkspaceSuspended
    limits = quotas.of_key(key)
    return Principal(
        api_key_id=key.pk,
        workspace_id=key.workspace_id,
        account_id=key.workspace.account.pk,
        workspace_public_id=key.workspace.public_id,
        scopes=frozenset(key.scopes),
        allowed_models=limits.allowed_models.value,
        allowed_networks=tuple(ipaddress.ip_network(network, strict=False) for network in key.allowed_addresses),
        max_requests_per_minute=limits.max_requests_per_minute.value,
        max_concurrent_requests=limits.max_concurrent_requests.value,
        expires_at=key.expires_at.timestamp() if key.expires_at else None,
        max_tokens_per_minute=limits.max_tokens_per_minute.value,
        max_tokens_daily=limits.max_tokens_daily.value,
        max_requests_daily=limits.max_requests_daily.value,
        family_id=key.family_id,
        owner_id=key.owner_id,
        owner_role=key.owner.role if key.owner else None,
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
