"""Which second factors a person has, and whether his session was opened by one. An app, passkeys, and recovery codes for both."""

from __future__ import annotations

from allauth.account.authentication import get_authentication_records
from allauth.mfa.models import Authenticator
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest

APP, PASSKEY, CODES = Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN, Authenticator.Type.RECOVERY_CODES


def kinds_of(user: AbstractBaseUser | AnonymousUser) -> frozenset[str]:
    """Empty for somebody without a second factor, and for nobody."""
    return frozenset(Authenticator.objects.filter(user_id=user.pk).values_list("type", flat=True))


def was_given(request: HttpRequest) -> bool:
    """Whether the session was opened, or confirmed later, by a second factor that the person still has.

    A passkey that was removed no longer counts, though others are left. New recovery codes count for the old ones: who lost
    everything else makes new ones in a session that he opened by an old one.
    """
    records = get_authentication_records(request, request.user)
    given = {_identity(record.get("type"), record.get("id")) for record in records if record.get("method") == "mfa"}
    if not given:
        return False
    owned = Authenticator.objects.filter(user_id=request.user.pk).values_list("type", "pk")
    return not given.isdisjoint(_identity(kind, pk) for kind, pk in owned)


def is_only_one(authenticator: Authenticator) -> bool:
    """Whether nothing but recovery codes is left without it, which go with the last factor."""
    others = Authenticator.objects.filter(user_id=authenticator.user_id).exclude(pk=authenticator.pk).exclude(type=CODES)
    return not others.exists()


def _identity(kind: str | None, pk: int | None) -> tuple[str | None, int | None]:
    return kind, None if kind == CODES else pk
