"""What allauth asks of the project: who may sign up, when a password has to be given again, and how secrets of second factors are kept."""

from __future__ import annotations

import time

from allauth.account import app_settings
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.authentication import get_authentication_records
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.http import HttpRequest

from infery_site import secretbox

_CONTEXT = "second factor"


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.SIGN_UP_IS_OPEN)

    def get_login_stages(self) -> list[str]:
        """allauth's, but the step of the mail address is ours."""
        of_allauth, ours = "allauth.account.stages.EmailVerificationStage", "infery_site.signin.stages.VerifiedMail"
        return [ours if stage == of_allauth else stage for stage in super().get_login_stages()]

    def is_reauthentication_required(self, *, app: str, **options: object) -> bool:
        """Not for the first second factor, right after the log-in: the password was given a moment ago."""
        request = context.request
        if app == "allauth.mfa" and not is_mfa_enabled(request.user):
            records = get_authentication_records(request, request.user)
            if records and time.time() - records[-1]["at"] < app_settings.REAUTHENTICATION_TIMEOUT:
                return False
        return bool(super().is_reauthentication_required(app=app, **options))


class MfaAdapter(DefaultMFAAdapter):
    """TOTP secrets and the seeds of recovery codes are encrypted in the database."""

    def encrypt(self, text: str) -> str:
        return secretbox.encrypt(text.encode(), context=_CONTEXT).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return secretbox.decrypt(encrypted_text.encode(), context=_CONTEXT).decode()
