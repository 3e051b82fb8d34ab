"""Below /accounts/: what allauth has for people whose accounts staff made. The gateway sends no mail."""

from __future__ import annotations

from allauth.account import views
from django.urls import include, path
from django.views.generic import TemplateView

from infery_site.signin.views import SetUpTotp

# Names that allauth's pages and middleware link to.
_by_staff = TemplateView.as_view(template_name="account/by_staff.html")

urlpatterns = [
    path("login/", views.login, name="account_login"),
    path("logout/", views.logout, name="account_logout"),
    path("inactive/", views.account_inactive, name="account_inactive"),
    path("reauthenticate/", views.reauthenticate, name="account_reauthenticate"),
    path("password/change/", views.password_change, name="account_change_password"),
    path("signup/", _by_staff, name="account_signup"),
    path("email/", _by_staff, name="account_email"),
    path("password/reset/", _by_staff, name="account_reset_password"),
    path("2fa/totp/activate/", SetUpTotp.as_view(), name="mfa_activate_totp"),
    path("2fa/", include("allauth.mfa.urls")),
]
