"""Doors beside Django's, for people in the console: what the playground asks and uploads goes the way of every API request.

A visitor shows his session, the CSRF token, an origin of this site, and names his workspace in `x-workspace`; his role says
whether he may. What he does is booked on his own playground key, whose digest stands for him from here on.
"""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections
from django.http import Http404, HttpRequest
from django.middleware.csrf import CsrfViewMiddleware

from billing.apikeys import playground_key
from billing.console.visits import visit_of
from billing.errors import CsrfFailed, MissingApiKey, NotPermitted, WorkspaceSuspended
from billing.models import Workspace
from billing.permissions import Action, Grant
from infery_site.middleware import unknown_url

WORKSPACE_HEADER = "x-workspace"


class _OriginCheck(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def digest_of_visitor(scope: Any, action: Action) -> str:
    """Whose request this ASGI scope is. Blocking. Raises the refusals of `billing.errors`, and unknown_url."""
    close_old_connections()
    try:
        return _digest(scope, action)
    finally:
        close_old_connections()


def _digest(scope: Any, action: Action) -> str:
    # Without its body, in which no token is looked for: it has to come in its header.
    request = ASGIRequest({**scope, "headers": _without_body(scope["headers"])}, io.BytesIO())
    sessions = import_module(settings.SESSION_ENGINE)
    request.session = sessions.SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    user = get_user(request)
    if not user.is_authenticated:
        raise MissingApiKey
    check = _OriginCheck(_no_response)
    check.process_request(request)
    if "origin" not in request.headers or check.process_view(request, _no_response, (), {}) is not None:
        raise CsrfFailed
    try:
        visit = visit_of(user, request.headers.get(WORKSPACE_HEADER, ""))
    except Http404:
        raise unknown_url() from None
    if visit.grant(action) is Grant.NONE:
        raise NotPermitted
    if visit.workspace.state != Workspace.State.ACTIVE:
        raise WorkspaceSuspended
    return playground_key(visit.member).digest


def _without_body(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in {b"content-type", b"content-length"}]


def _no_response(request: Any) -> Any:
    """The check is a middleware in front of nothing."""
