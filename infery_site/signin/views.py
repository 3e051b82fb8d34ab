"""Setting up the second factor: allauth's page, after which the session counts as confirmed by it."""

from __future__ import annotations

from typing import Any

from allauth.mfa.base.internal.flows import post_authentication
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.views import ActivateTOTPView
from django.http import HttpResponse


class SetUpTotp(ActivateTOTPView):
    """The code that was just checked is one of the factor's: asking for the next one would be half a minute of waiting."""

    def form_valid(self, form: Any) -> HttpResponse:
        response: HttpResponse = super().form_valid(form)
        made = Authenticator.objects.get(user_id=self.request.user.pk, type=Authenticator.Type.TOTP)
        post_authentication(self.request, made, reauthenticated=True)
        return response
