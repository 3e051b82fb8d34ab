"""The people of the staff: what superusers do to their accounts leaves an audit event, as everything else staff do."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.db import transaction

from billing import audit


def note(user: User, verb: str, *, actor: str, details: Any = None) -> None:
    """Keep that an account was created, changed or deleted; with the rights it has then."""
    rights = {
        "is_active": user.is_active,
        "is_staff": user.is_staff,
        "is_superuser": user.is_superuser,
        "roles": sorted(user.groups.values_list("name", flat=True)) if user.pk else [],
    }
    audit.record(f"user.{verb}", actor=actor, target=user.get_username(), details=rights | {"what": str(details or "")[:500]})


def reset_second_factor(user: User, *, actor: str, reason: str) -> bool:
    """Forget the second factor of a person who lost it; he sets up another one with the next log-in. False if he has none.

    His sessions see nothing of the admin from then on.
    """
    with transaction.atomic():
        count, _ = Authenticator.objects.filter(user=user).delete()
        if count:
            audit.record("user.second_factor_reset", actor=actor, target=user.get_username(), reason=reason)
    return bool(count)
