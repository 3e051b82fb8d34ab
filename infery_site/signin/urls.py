"""Below /accounts/: what allauth has for people with a password, or with an identity provider. Who has no mail address asks the staff."""

from __future__ import annotations

from allauth.account import views
from django.urls import include, path, re_path
from django.views.generic import RedirectView, TemplateView

from infery_site.signin.views import (
    AddPasskey,
    ConfirmByCode,
    ConfirmByPasskey,
    GiveSecondFactor,
    RemovePasskey,
    RenamePasskey,
    SetUpTotp,
    SignInByPasskey,
)

# A name that allauth's pages link to.
_by_staff = TemplateView.as_view(template_name="account/by_staff.html")

urlpatterns = [
    path("login/", views.login, name="account_login"),
    path("logout/", views.logout, name="account_logout"),
    path("inactive/", views.account_inactive, name="account_inactive"),
    path("reauthenticate/", views.reauthenticate, name="account_reauthenticate"),
    path("password/change/", views.password_change, name="account_change_password"),
    path("signup/", views.signup, name="account_signup"),
    path("confirm-email/", views.email_verification_sent, name="account_email_verification_sent"),
    re_path(r"^confirm-email/(?P<key>[-:\w]+)/$", views.confirm_email, name="account_confirm_email"),
    path("email/", _by_staff, name="account_email"),
    path("password/reset/", views.password_reset, name="account_reset_password"),
    path("password/reset/done/", views.password_reset_done, name="account_reset_password_done"),
    re_path(
        r"^password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        views.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path("password/reset/key/done/", views.password_reset_from_key_done, name="account_reset_password_from_key_done"),
    path("2fa/authenticate/", GiveSecondFactor.as_view(), name="mfa_authenticate"),
    path("2fa/reauthenticate/", ConfirmByCode.as_view(), name="mfa_reauthenticate"),
    path("2fa/totp/activate/", SetUpTotp.as_view(), name="mfa_activate_totp"),
    # Passkeys are listed where the other factors are.
    path("2fa/webauthn/", RedirectView.as_view(pattern_name="mfa_index"), name="mfa_list_webauthn"),
    path("2fa/webauthn/add/", AddPasskey.as_view(), name="mfa_add_webauthn"),
    path("2fa/webauthn/login/", SignInByPasskey.as_view(), name="mfa_login_webauthn"),
    path("2fa/webauthn/reauthenticate/", ConfirmByPasskey.as_view(), name="mfa_reauthenticate_webauthn"),
    path("2fa/webauthn/keys/<int:pk>/edit/", RenamePasskey.as_view(), name="mfa_edit_webauthn"),
    path("2fa/webauthn/keys/<int:pk>/remove/", RemovePasskey.as_view(), name="mfa_remove_webauthn"),
    path("2fa/", include("allauth.mfa.urls")),
    path("password/set/", views.password_set, name="account_set_password"),
    path("by/", include("allauth.socialaccount.providers.openid_connect.urls")),
    path("linked/", include("allauth.socialaccount.urls")),
]
