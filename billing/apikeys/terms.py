"""What a key may do, as it is asked for, and what of that makes sense.

Every `checked_...` function gives the value as it is stored and raises ValidationError with a text for people.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from django.core.exceptions import ValidationError
from msgspec import UNSET, UnsetType

from billing import quotas
from billing.errors import KeyTooBroad
from billing.models import ApiKey, Membership, QuotaPreset
from billing.permissions import MANAGEMENT_SCOPES, SCOPES, Action, Grant, grant_of_role, scopes_of_role
from billing.pricing import MAX_MICROCREDITS
from billing.quotas import EVERY_MODEL

NAME_LENGTH = 120
MODEL_LENGTH = 256
MAX_LIST_ITEMS = 500

T = TypeVar("T")
V = TypeVar("V")


class KeyTerms(msgspec.Struct, frozen=True):
    """What a new key may do.

    None leaves a field at its default: the usual scopes, the models of whoever makes the key, no limit of its own.
    """

    scopes: Sequence[str] | None = None
    allowed_models: Sequence[str] | None = None
    allowed_addresses: Sequence[str] = ()
    max_requests_per_minute: int | None = None
    max_concurrent_requests: int | None = None
    expires_at: datetime | None = None
    max_tokens_per_minute: int | None = None
    max_tokens_daily: int | None = None
    max_requests_daily: int | None = None
    max_budget_monthly_microcredits: int | None = None
    preset: QuotaPreset | None = None


class KeyChanges(msgspec.Struct, frozen=True):
    """What of a key is to change; UNSET stays as it is, None takes a limit, a preset or the expiry away."""

    name: str | UnsetType = UNSET
    scopes: Sequence[str] | UnsetType = UNSET
    allowed_models: Sequence[str] | UnsetType = UNSET
    allowed_addresses: Sequence[str] | UnsetType = UNSET
    max_requests_per_minute: int | None | UnsetType = UNSET
    max_concurrent_requests: int | None | UnsetType = UNSET
    expires_at: datetime | None | UnsetType = UNSET
    max_tokens_per_minute: int | None | UnsetType = UNSET
    max_tokens_daily: int | None | UnsetType = UNSET
    max_requests_daily: int | None | UnsetType = UNSET
    max_budget_monthly_microcredits: int | None | UnsetType = UNSET
    preset: QuotaPreset | None | UnsetType = UNSET


class Creator(msgspec.Struct, frozen=True):
    """On whose behalf a key is made or changed: it may become at most this broad.

    `scopes` are what his keys may have (`billing.permissions`), `allowed_models` the models in force for himself, None
    for every model. `member` becomes the owner of the keys he makes. `is_bound`: he may act on his own keys only, so limits that
    others have set bind him (`billing.ceilings`).
    """

    scopes: frozenset[str]
    allowed_models: frozenset[str] | None = None
    member: Membership | None = None
    is_bound: bool = False


def creator_of(member: Membership) -> Creator:
    """The bounds of the keys that a member makes or changes; he comes with his workspace's plan and his preset."""
    is_bound = grant_of_role(Action.UPDATE_KEYS, member.role) is not Grant.ALL
    return Creator(scopes_of_role(member.role), quotas.of_member(member).allowed_models.value, member, is_bound)


def checked_name(text: str) -> str:
    """A name that people give to a key, a preset or a workspace."""
    name = text.strip()
    if not 0 < len(name) <= NAME_LENGTH:
        raise ValidationError(f"A name has 1 to {NAME_LENGTH} characters.")
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
    """Addresses and networks in their usual writing."""
    _check_length(addresses)
    try:
        return [str(ipaddress.ip_network(address.strip(), strict=False)) for address in addresses]
    except ValueError as error:
        raise ValidationError("An address list holds addresses such as 203.0.113.7 or networks such as 10.0.0.0/8.") from error


def checked_models(models: Sequence[str]) -> list[str]:
    _check_length(models)
    if not models:
        raise ValidationError('A key needs at least one model; "*" stands for every model.')
    if not all(0 < len(model) <= MODEL_LENGTH and model.isprintable() for model in models):
        raise ValidationError(f"The slug of a model has 1 to {MODEL_LENGTH} printable characters.")
    return sorted(set(models))


def checked_limit(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise ValidationError("A limit is 1 or more; leave it out for none.")
    return limit


def checked_budget(limit_microcredits: int | None) -> int | None:
    if limit_microcredits is not None and not 0 <= limit_microcredits <= MAX_MICROCREDITS:
        raise ValidationError("A budget is 0 credits or more.")
    return limit_microcredits


CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": checked_name,
    "scopes": checked_scopes,
    "allowed_models": checked_models,
    "allowed_addresses": checked_addresses,
    "max_requests_per_minute": checked_limit,
    "max_requests_daily": checked_limit,
    "max_tokens_per_minute": checked_limit,
    "max_tokens_daily": checked_limit,
    "max_concurrent_requests": checked_limit,
    "max_budget_monthly_microcredits": checked_budget,
}


def checked(field: str, value: Any) -> Any:
    """The value as the row of a key stores it. The ValidationError says which field it is about."""
    check = CHECKS.get(field)
    return value if check is None else named(field, check, value)


def _check_length(items: Sequence[str]) -> None:
    if len(items) > MAX_LIST_ITEMS:
        raise ValidationError(f"A list has at most {MAX_LIST_ITEMS} items.")


def named(field: str, check: Callable[[V], T], value: V) -> T:
    """What the check gives; its ValidationError says which field it is about."""
    try:
        return check(value)
    except ValidationError as error:
        raise ValidationError({field: error}) from error


def models_of_new_key(key: ApiKey, wanted: Sequence[str] | None, creator: Creator | None) -> list[str]:
    """The models a key gets if these are asked for: by default as many as its creator may use himself.

    What counts for the creator only, and not for the key too, is written into the key. Raises KeyTooBroad.
    """
    if creator is None or creator.allowed_models is None:
        return [EVERY_MODEL] if wanted is None else named("allowed_models", checked_models, wanted)
    if wanted is None:
        is_bound = key.owner is not None and quotas.of_member(key.owner).allowed_models.value == creator.allowed_models
        return [EVERY_MODEL] if is_bound else sorted(creator.allowed_models)
    models = named("allowed_models", checked_models, wanted)
    if EVERY_MODEL not in models and not creator.allowed_models.issuperset(models):
        raise KeyTooBroad("allowed_models")
    return models


def check_breadth(key: ApiKey, creator: Creator | None) -> None:
    """Raises KeyTooBroad if the key may do what its creator may not."""
    if creator is None:
        return
    if not creator.scopes.issuperset(key.scopes):
        raise KeyTooBroad("scopes")
    models = quotas.of_key(key).allowed_models.value
    if creator.allowed_models is not None and (models is None or not creator.allowed_models.issuperset(models)):
        raise KeyTooBroad("allowed_models")
