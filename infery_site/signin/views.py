"""Second factors: allauth's pages, where they have to know or to say more than its own do."""

from __future__ import annotations

from typing import Any

from allauth.account.utils import passthrough_next_redirect_url
from allauth.core.internal import ratelimit
from allauth.mfa.base.internal.flows import post_authentication
from allauth.mfa.base.views import AuthenticateView, ReauthenticateView
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.views import ActivateTOTPView
from allauth.mfa.webauthn import views as webauthn
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse, reverse_lazy
from django.utils.decorators import method_decorator

from infery_site.signin import factors, passkeys


class SetUpTotp(ActivateTOTPView):
    """The code that was just checked is one of the factor's: asking for the next one would be half a minute of waiting."""

    def form_valid(self, form: Any) -> HttpResponse:
        response: HttpResponse = super().form_valid(form)
        _count(self.request, factors.APP)
        return response


class AddPasskey(webauthn.AddWebAuthnView):
    """The device has just shown that it has the passkey: it is not asked twice."""

    form_class = passkeys.AddPasskeyForm

    def get(self, request: HttpRequest, *arguments: Any, **named: Any) -> HttpResponse:
        if not passkeys.has_room(request.user):
            messages.error(request, passkeys.FULL)
            return HttpResponseRedirect(reverse("mfa_index"))
        response: HttpResponse = super().get(request, *arguments, **named)
        return response

    def form_valid(self, form: Any) -> HttpResponse:
        response: HttpResponse = super().form_valid(form)
        _count(self.request, factors.PASSKEY)
        return response

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        # allauth's forgets the form that was refused, and would judge it again.
        refused = {name: form for name, form in context.items() if name == "form"}
        return {**super().get_context_data(**context), **refused, "kinds": factors.kinds_of(self.request.user)}


class RenamePasskey(webauthn.EditWebAuthnView):
    form_class = passkeys.RenamePasskeyForm
    success_url = reverse_lazy("mfa_index")


class RemovePasskey(webauthn.RemoveWebAuthnView):
    success_url = reverse_lazy("mfa_index")

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        return {**super().get_context_data(**context), "is_only_one": factors.is_only_one(self.object)}


class GiveSecondFactor(AuthenticateView):
    """The step after the password: a code or a passkey, by what the person has."""

    webauthn_form_class = passkeys.SecondFactorForm

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        return {**super().get_context_data(**context), "kinds": factors.kinds_of(self.stage.login.user)}


class ConfirmByCode(ReauthenticateView):
    def get_context_data(self, **context: Any) -> dict[str, Any]:
        return {**super().get_context_data(**context), "kinds": factors.kinds_of(self.request.user)}


class ConfirmByPasskey(webauthn.ReauthenticateWebAuthnView):
    form_class = passkeys.ConfirmForm

    def form_invalid(self, form: Any) -> HttpResponse:
        return _again(self.request, form, "mfa_reauthenticate_webauthn")


# Each GET makes a session for who has none, so it is bounded as well: two requests for one that signs in.
@method_decorator(ratelimit.decorator(app="allauth.mfa", action="passkey_options", limit_get=True), name="dispatch")
class SignInByPasskey(webauthn.LoginWebAuthnView):
    form_class = passkeys.SignInForm

    def form_invalid(self, form: Any) -> HttpResponse:
        return _again(self.request, form, "account_login")


def _count(request: HttpRequest, kind: str) -> None:
    """The session is confirmed by the factor that was just made."""
    made = Authenticator.objects.filter(user_id=request.user.pk, type=kind).latest("pk")
    post_authentication(request, made, reauthenticated=True)


def _again(request: HttpRequest, form: Any, name: str) -> HttpResponse:
    """Back to the page, with what was wrong, and still on the way to where it should lead."""
    for text in form.errors.get("credential", []):
        messages.error(request, text)
    return HttpResponseRedirect(passthrough_next_redirect_url(request, reverse(name), REDIRECT_FIELD_NAME))
