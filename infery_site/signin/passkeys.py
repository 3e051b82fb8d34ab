"""The forms of passkeys: allauth's, with bounds for what is kept, and words of their own for what is refused.

What a browser sends is a stranger's. Whatever is wrong with it, the person learns that this passkey was not accepted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn import forms as of_allauth
from django import forms
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from fido2.webauthn import RegistrationResponse

NAME_LENGTH = 60
PASSKEYS_OF_A_PERSON = 20
# A passkey tells a few hundred characters; the certificates of its maker may add some thousands.
CREDENTIAL_CHARACTERS = 16_384

FULL = f"You have {PASSKEYS_OF_A_PERSON} passkeys, which is the most. Remove one first."
_UNKNOWN = "This passkey was not accepted. It may have been removed here, or belong to another account."
_UNREAD = "This passkey was not accepted. Try again."

# What the library raises for bytes that are none of its structures
_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RecursionError,
    struct.error,
)


def has_room(user: AbstractBaseUser | AnonymousUser) -> bool:
    count: int = Authenticator.objects.filter(user_id=user.pk, type=Authenticator.Type.WEBAUTHN).count()
    return count < PASSKEYS_OF_A_PERSON


@contextmanager
def _refusing(text: str) -> Iterator[None]:
    """Raises ValidationError with this text for whatever is not the answer of a passkey that was asked for."""
    try:
        yield
    except ValidationError as error:
        if error.code == "too_many_login_attempts":
            raise
        raise ValidationError(text) from error
    except _UNREADABLE as error:
        raise ValidationError(text) from error


class _Credential(forms.JSONField):
    widget = forms.HiddenInput
    default_error_messages: ClassVar[dict[str, Any]] = {"required": "No passkey was sent."}

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and len(value) > CREDENTIAL_CHARACTERS:
            raise ValidationError(f"This passkey tells more than {CREDENTIAL_CHARACTERS:,} characters about itself.")
        with _refusing(_UNREAD):
            return super().to_python(value)


class AddPasskeyForm(of_allauth.AddWebAuthnForm):
    name = forms.CharField(required=False, widget=forms.TextInput(attrs={"maxlength": NAME_LENGTH, "autocomplete": "off"}))
    passwordless = forms.BooleanField(required=False, initial=True)
    credential = _Credential()

    def clean_name(self) -> str:
        """Cut, not refused: the device has the passkey already."""
        name: str = super().clean_name()
        return name[:NAME_LENGTH]

    def clean(self) -> dict[str, Any]:
        if not has_room(self.user):
            raise ValidationError(FULL)
        with _refusing(_UNREAD):
            cleaned: dict[str, Any] = super().clean()
            if "credential" in cleaned:
                cleaned["credential"] = _kept(cleaned["credential"], signs_in_alone=cleaned["passwordless"])
        return cleaned


def _kept(credential: dict[str, Any], *, signs_in_alone: bool) -> dict[str, Any]:
    """Of what a browser told that which is read again, written as we write it. A device may keep more than it was asked for."""
    told = dict(RegistrationResponse.from_dict(credential))
    properties = credential.get("clientExtensionResults", {}).get("credProps", {})
    extensions = {"credProps": {"rk": signs_in_alone or properties.get("rk") is True}}
    return {name: told[name] for name in ("id", "rawId", "type", "response")} | {"clientExtensionResults": extensions}


class RenamePasskeyForm(of_allauth.EditWebAuthnForm):
    name = forms.CharField(max_length=NAME_LENGTH, widget=forms.TextInput(attrs={"autocomplete": "off"}))


class _UsePasskey:
    """A mixin of allauth's forms that take what a passkey signed."""

    def clean_credential(self) -> Authenticator:
        with _refusing(_UNKNOWN):
            authenticator: Authenticator = super().clean_credential()  # type: ignore[misc]
        return authenticator


class SignInForm(_UsePasskey, of_allauth.LoginWebAuthnForm):
    credential = _Credential()


class SecondFactorForm(_UsePasskey, of_allauth.AuthenticateWebAuthnForm):
    credential = _Credential()


class ConfirmForm(_UsePasskey, of_allauth.ReauthenticateWebAuthnForm):
    credential = _Credential()
