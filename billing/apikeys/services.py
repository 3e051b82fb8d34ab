"""Keys are made, changed, rolled and ended here, each act with its audit event, and with the budget its limits ask for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from billing import audit, budgets, notices, quotas
from billing.apikeys.grammar import digest_of, new_key
from billing.apikeys.principal import is_expired
from billing.apikeys.terms import Creator, KeyChanges, KeyTerms, check_breadth, checked, creator_of, models_of_new_key
from billing.ceilings import ceilings_after
from billing.errors import KeyNotActive, KeyTooBroad
from billing.models import ApiKey, Membership, Notice, QuotaPreset, Workspace
from billing.models.keys import default_scopes
from billing.permissions import scopes_of_role

PLAYGROUND = "playground"
PLAYGROUND_SCOPES = ("chat", "files:read", "files:write")

_LIMITS = (
    *("max_requests_per_minute", "max_requests_daily", "max_tokens_per_minute", "max_tokens_daily"),
    *("max_concurrent_requests", "max_budget_monthly_microcredits"),
)
# What the keys of a family have in common, because their budget is made of it.
_SHARED = ("preset", "max_budget_monthly_microcredits")
# Columns that a rolled key has of its predecessor.
_KEPT = (
    "workspace",
    "owner",
    "preset",
    "name",
    "scopes",
    "allowed_models",
    "allowed_addresses",
    "expires_at",
    "ceilings",
    *_LIMITS,
)


class Overlap(StrEnum):
    """How long the old key goes on working after a roll."""

    NOW = "now"
    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"

    @property
    def span(self) -> timedelta:
        return _SPANS[self]


_SPANS = {
    Overlap.NOW: timedelta(0),
    Overlap.HOUR: timedelta(hours=1),
    Overlap.DAY: timedelta(hours=24),
    Overlap.WEEK: timedelta(days=7),
}


def mint(
    workspace: Workspace, name: str, *, actor: str, terms: KeyTerms | None = None, creator: Creator | None = None
) -> tuple[ApiKey, str]:
    """A new key of a workspace: its row, and its text, which nobody can show again.

    Raises ValidationError, and KeyTooBroad if it were broader than its creator; without a creator it has no bounds.
    """
    terms = terms or KeyTerms()
    with transaction.atomic():
        key = ApiKey(
            workspace=workspace,
            owner=creator.member if creator else None,
            preset=terms.preset,
            name=checked("name", name),
            scopes=default_scopes() if terms.scopes is None else checked("scopes", terms.scopes),
            expires_at=terms.expires_at,
            **{field: checked(field, getattr(terms, field)) for field in ("allowed_addresses", *_LIMITS)},
        )
        key.allowed_models = models_of_new_key(key, terms.allowed_models, creator)
        _check_expiry(key)
        check_breadth(key, creator)
        key_text = _store(key)
        audit.record("api_key.created", actor=actor, workspace=workspace, target=key.hint, details={"name": key.name})
        _tell(key, Notice.Kind.KEY_CREATED, "was made", actor)
    return key, key_text


def playground_key(member: Membership) -> ApiKey:
    """The key on which is booked what a member does in the console. Nobody has its text.

    It is made when he first does something, and anew where it has ended. Raises KeyTooBroad for a role that may not use one.
    """
    with transaction.atomic():
        # Of two at once the later one finds the key of the earlier one.
        budgets.lock(Workspace.objects.filter(pk=member.workspace_id))
        found = ApiKey.objects.filter(owner=member, is_playground=True, revoked_at__isnull=True).first()
        actor, terms = f"user:{member.user.get_username()}", KeyTerms(scopes=PLAYGROUND_SCOPES)
        if found is not None:
            if not is_expired(found):
                return found
            revoke(found, actor=actor, reason="it had ended")
        key, _ = mint(member.workspace, PLAYGROUND, actor=actor, terms=terms, creator=creator_of(member))
        key.is_playground = True
        key.save(update_fields=["is_playground"])
    return key


def update_key(key: ApiKey, changes: KeyChanges, *, actor: str, creator: Creator | None = None) -> ApiKey:
    """Change what a key may do, everywhere within a second; the row as it is then.

    A preset, or a monthly budget, is given to all keys of its family. Raises ValidationError; KeyNotActive for a revoked
    key; KeyTooBroad if one of these keys is, or would become, broader than who changes it, or than others let him make it.
    """
    values: dict[str, Any] = {
        field: checked(field, value) for field, value in msgspec.structs.asdict(changes).items() if value is not msgspec.UNSET
    }
    with transaction.atomic():
        key = _locked(key)
        check_breadth(key, creator)
        if "allowed_models" in values:
            values["allowed_models"] = models_of_new_key(key, values["allowed_models"], creator)
        before = {field: getattr(key, field) for field in values}
        for field, value in values.items():
            setattr(key, field, value)
        if "expires_at" in values:
            _check_expiry(key)
        check_breadth(key, creator)
        limits = {field: values[field] for field in _LIMITS if field in values}
        is_bound = creator is not None and creator.is_bound
        key.ceilings = ceilings_after(key.ceilings, limits, is_bound=is_bound)
        key.full_clean(validate_constraints=False)
        key.save(update_fields=[*values, "ceilings"])
        if shared := {field: values[field] for field in _SHARED if field in values}:
            budgets.family_of(key).update(**shared)
            common = {field: value for field, value in shared.items() if field in _LIMITS}
            budgets.set_ceilings(budgets.family_of(key).exclude(pk=key.pk), common, is_bound=is_bound)
            for sibling in budgets.family_of(key).filter(revoked_at__isnull=True).select_related(*quotas.KEY_LAYERS):
                check_breadth(sibling, creator)
        _follow(key)
        details = {field: [_plain(before[field]), _plain(value)] for field, value in values.items() if before[field] != value}
        if details:
            audit.record("api_key.updated", actor=actor, workspace=key.workspace, target=key.hint, details=details)
    return key


def roll(key: ApiKey, *, overlap: Overlap, actor: str, creator: Creator | None = None) -> tuple[ApiKey, str]:
    """A new key on the terms of `key`, which ends when the overlap is over. The new row, and its text.

    Both are of one family, and so spend the same budgets. Raises KeyNotActive for a key that has ended, and KeyTooBroad.
    """
    with transaction.atomic():
        old = _locked(key)
        if is_expired(old):
            raise KeyNotActive
        check_breadth(old, creator)
        rolled = ApiKey(family_id=old.first_id, **{field: getattr(old, field) for field in _KEPT})
        key_text = _store(rolled)
        details = {"old": old.public_id, "new": rolled.public_id, "overlap": overlap.value}
        audit.record("api_key.rolled", actor=actor, workspace=old.workspace, target=old.hint, details=details)
        _tell(rolled, Notice.Kind.KEY_CREATED, "was made by rolling another", actor)
        if overlap is Overlap.NOW:
            revoke(old, actor=actor, reason="rolled")
        else:
            end = timezone.now() + overlap.span
            old.expires_at = min(old.expires_at, end) if old.expires_at else end
            old.save(update_fields=["expires_at"])
    return rolled, key_text


def revoke(key: ApiKey, *, actor: str, reason: str = "") -> bool:
    """End a key for good, everywhere within a second. False if it had been revoked before."""
    now = timezone.now()
    with transaction.atomic():
        if not ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=now):
            return False
        audit.record("api_key.revoked", actor=actor, workspace=key.workspace, target=key.hint, reason=reason)
        _tell(key, Notice.Kind.KEY_REVOKED, "was revoked", actor)
    key.revoked_at = now
    return True


def revoke_keys_of(member: Membership, *, beyond: frozenset[str], actor: str, reason: str) -> int:
    """Revoke the keys of a member that may do more than the scopes `beyond`. How many that were."""
    keys = ApiKey.objects.select_related("workspace").filter(owner=member, revoked_at__isnull=True).order_by("pk")
    return sum(revoke(key, actor=actor, reason=reason) for key in keys if not beyond.issuperset(key.scopes))


def _tell(key: ApiKey, kind: Notice.Kind, what: str, actor: str) -> None:
    notices.publish(
        key.workspace,
        kind,
        title=f"The key {key.name} {what}",
        text=f"The key {key.name} ({key.hint}) {what}, by {actor.removeprefix('user:')}.",
        data={"id": key.public_id, "name": key.name, "hint": key.hint, "actor": actor},
        place=f"keys/{key.public_id}",
        owner_id=key.owner_id,
    )


def _store(key: ApiKey) -> str:
    """Gives a new row its text, and saves it with its budget. The text."""
    key_text = new_key()
    key.digest = digest_of(key_text)
    key.hint = f"{key_text[:8]}...{key_text[-4:]}"
    key.full_clean()
    key.save()
    _follow(key)
    return key_text


def _follow(key: ApiKey) -> None:
    """Has the budget follow the key's limits, and makes sure that the key's owner may still have such a key.

    The first of it waits for whoever is just changing the owner's role; he then finds this key, or this finds the new role.
    """
    budgets.follow(ApiKey.objects.filter(pk=key.pk))
    if key.owner_id is not None:
        owner = Membership.objects.get(pk=key.owner_id)
        if owner.removed_at is not None or not scopes_of_role(owner.role).issuperset(key.scopes):
            raise KeyTooBroad("scopes")


def _locked(key: ApiKey) -> ApiKey:
    """The key as it stands, and so its family, until the transaction ends. Raises KeyNotActive if it was revoked."""
    budgets.lock_family(key)
    locked = ApiKey.objects.select_related(*quotas.KEY_LAYERS).get(pk=key.pk)
    if locked.revoked_at is not None:
        raise KeyNotActive
    return locked


def _check_expiry(key: ApiKey) -> None:
    if is_expired(key):
        raise ValidationError({"expires_at": "The expiry of a key lies in the future."})
    if key.is_playground and key.expires_at is not None:
        raise ValidationError({"expires_at": "The key of a playground takes no expiry; revoke it instead."})


def _plain(value: object) -> object:
    """A value of a key as the audit trail keeps it."""
    if isinstance(value, QuotaPreset):
        return value.public_id
    if isinstance(value, Sequence | int | None):
        return value
    return str(value)
