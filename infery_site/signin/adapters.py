"""What allauth asks of the project: who may sign up, how a session is confirmed, how second factors are kept and named."""

from __future__ import annotations

import time

from allauth.account import app_settings
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.authentication import get_authentication_records
from allauth.core import context
from allauth.core.exceptions import ReauthenticationRequired
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.http.request import split_domain_port

from infery_site import secretbox
from infery_site.signin import factors

_CONTEXT = "second factor"
_WORDS = {
    "reauthenticate": "Use your password",
    "mfa_reauthenticate": "Use a code",
    "mfa_reauthenticate:webauthn": "Use a passkey",
}


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.SIGN_UP_IS_OPEN)

    def get_login_stages(self) -> list[str]:
        """allauth's, but the step of the mail address is ours."""
        of_allauth, ours = "allauth.account.stages.EmailVerificationStage", "infery_site.signin.stages.VerifiedMail"
        return [ours if stage == of_allauth else stage for stage in super().get_login_stages()]

    def is_reauthentication_required(self, *, app: str, **options: object) -> bool:
        """Not for the first second factor, right after the log-in: the password was given a moment ago.

        Raises ReauthenticationRequired where a session that was opened without the second factor would touch it: what was
        confirmed by the password, a thief of the password has confirmed too.
        """
        request = context.request
        if app == "allauth.mfa":
            if factors.kinds_of(request.user):
                if not factors.was_given(request):
                    raise ReauthenticationRequired
            else:
                records = get_authentication_records(request, request.user)
                if records and time.time() - records[-1]["at"] < app_settings.REAUTHENTICATION_TIMEOUT:
                    return False
        return bool(super().is_reauthentication_required(app=app, **options))

    def get_reauthentication_methods(self, user: AbstractBaseUser | AnonymousUser) -> list[dict[str, str]]:
        """The first is the one that is asked for. A passkey comes before codes that are those of recovery only."""
        methods = super().get_reauthentication_methods(user)
        kinds = factors.kinds_of(user)
        if kinds and not factors.was_given(context.request):
            methods = [method for method in methods if method["id"] != "reauthenticate"]
        if factors.APP not in kinds:
            methods.sort(key=lambda method: method["id"] == "mfa_reauthenticate")
        return [method | {"description": _WORDS.get(method["id"], method["description"])} for method in methods]


class MfaAdapter(DefaultMFAAdapter):
    """TOTP secrets and the seeds of recovery codes are encrypted in the database; of passkeys it has public keys only."""

    def encrypt(self, text: str) -> str:
        return secretbox.encrypt(text.encode(), context=_CONTEXT).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return secretbox.decrypt(encrypted_text.encode(), context=_CONTEXT).decode()

    def generate_authenticator_name(self, user: AbstractBaseUser, type: Authenticator.Type) -> str:
        """What a passkey is called that nobody gives a name; the first number that is free."""
        taken = {str(one) for one in Authenticator.objects.filter(user_id=user.pk, type=type)}
        numbers = range(1, len(taken) + 2)
        return next(name for number in numbers if (name := f"Passkey {number}") not in taken)

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """A passkey belongs to the host that the person sees, whatever its port. The settings say which hosts there are."""
        host, _ = split_domain_port(context.request.get_host())
        return {"id": host, "name": settings.MFA_TOTP_ISSUER}
