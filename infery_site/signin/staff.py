"""The site of the staff admin: open to staff who gave their second factor when they signed in."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import REDIRECT_FIELD_NAME
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.sites import UnfoldAdminSite

from infery_site.signin.steps import to_step


class StaffSite(UnfoldAdminSite):
    def has_permission(self, request: HttpRequest) -> bool:
        """Asked by every page of the admin."""
        # Models of this can be imported only when all apps are there; the site is made before.
        from infery_site.signin import factors  # noqa: PLC0415

        return bool(super().has_permission(request)) and factors.was_given(request)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Where a page sends whoever may not see it: to the step that he lacks."""
        index = reverse("admin:index", current_app=self.name)
        if self.has_permission(request):
            return HttpResponseRedirect(index)
        page = request.GET.get(REDIRECT_FIELD_NAME) or index
        return to_step(request, self._step_of(request), page, below=index, otherwise=index)

    def _step_of(self, request: HttpRequest) -> str:
        """Raises PermissionDenied for who is not of the staff."""
        from allauth.account.adapter import get_adapter  # noqa: PLC0415 - see above

        from infery_site.signin import factors  # noqa: PLC0415 - see above

        if not request.user.is_authenticated:
            return reverse("account_login")
        if not (request.user.is_active and request.user.is_staff):
            raise PermissionDenied("This account is not a member of the staff.")
        if factors.kinds_of(request.user):
            return str(get_adapter().get_reauthentication_methods(request.user)[0]["url"])
        return reverse("mfa_activate_totp")

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return HttpResponseRedirect(reverse("account_logout"))
