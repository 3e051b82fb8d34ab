"""API keys in front of Django REST framework's views.

A view that wants a scope says so: `required_scope = "usage:read"`; without one any active key may call it. Session
cookies are not looked at. The principal is `request.auth`.
"""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.db import Error as DatabaseFault
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from billing.apikeys import Principal, admitted, find, parse_authorization
from billing.errors import LedgerUnavailable


class ApiKeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[AnonymousUser, Principal]:
        """Raises the refusals of `billing.errors`."""
        # Two headers arrive joined by a comma, which is not the grammar of a key.
        header = request.META.get("HTTP_AUTHORIZATION")
        digest = parse_authorization([] if header is None else [header])
        try:
            found = find(digest)
        except DatabaseFault as error:
            raise LedgerUnavailable from error
        scope = getattr(request.parser_context["view"], "required_scope", None)
        return AnonymousUser(), admitted(found, scope=scope, address=request.META.get("REMOTE_ADDR"))


def principal_of(request: Request) -> Principal:
    """Who calls a view behind ApiKeyAuthentication."""
    principal = request.auth
    if not isinstance(principal, Principal):
        raise TypeError("This view is not behind ApiKeyAuthentication")
    return principal
