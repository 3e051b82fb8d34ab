"""The site of the staff admin: open to staff who gave their second factor when they signed in."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.auth import REDIRECT_FIELD_NAME
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.sites import UnfoldAdminSite


def has_second_factor(request: HttpRequest) -> bool:
    """Whether the session was opened, or confirmed later, by a second factor that the person still has."""
    # Models of these can be imported only when all apps are there; the site is made before.
    from allauth.account.authentication import get_authentication_records  # noqa: PLC0415
    from allauth.mfa.utils import is_mfa_enabled  # noqa: PLC0415

    records = get_authentication_records(request, request.user)
    return any(record.get("method") == "mfa" for record in records) and is_mfa_enabled(request.user)


class StaffSite(UnfoldAdminSite):
    def has_permission(self, request: HttpRequest) -> bool:
        """Asked by every page of the admin."""
        return bool(super().has_permission(request)) and has_second_factor(request)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Where a page sends whoever may not see it: to the step that he lacks."""
        from allauth.mfa.utils import is_mfa_enabled  # noqa: PLC0415 - see above

        page = request.GET.get(REDIRECT_FIELD_NAME) or reverse("admin:index", current_app=self.name)
        if self.has_permission(request):
            return HttpResponseRedirect(reverse("admin:index", current_app=self.name))
        if not request.user.is_authenticated:
            return _to("account_login", page)
        if not (request.user.is_active and request.user.is_staff):
            raise PermissionDenied("This account is not a member of the staff.")
        return _to("mfa_reauthenticate" if is_mfa_enabled(request.user) else "mfa_activate_totp", page)

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return HttpResponseRedirect(reverse("account_logout"))


def _to(name: str, page: str) -> HttpResponse:
    return HttpResponseRedirect(f"{reverse(name)}?{urlencode({REDIRECT_FIELD_NAME: page})}")
