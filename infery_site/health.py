"""Whether this process lives, and whether it should get traffic: `GET /healthz` and `GET /readyz`.

Answered by a middleware in front of the check of the Host header, because load balancers and kubelets ask by address.
Both say nothing about volumes or models.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase, HttpResponseNotAllowed

from infery_site.errors import ApiError
from infery_site.responses import error_response

log = structlog.get_logger(__name__)

_API_PREFIXES = ("/v1/", "/api/")

# Set by the lifespan when the process was told to stop: no new work from then on.
DRAINING = threading.Event()


class ServerDraining(ApiError):
    def __init__(self) -> None:
        message = "This server is about to stop. Send the request again; another one will take it."
        super().__init__(503, "server_draining", message, headers=[("retry-after", "1"), ("connection", "close")])


class HealthChecks:
    """Django middleware that answers the two paths. Else it passes on what the process may begin with.

    While it drains that is no API any more, whose clients try again elsewhere; people get their page.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._answers: dict[str, Callable[[], HttpResponseBase]] = {"/healthz": healthy, "/readyz": ready}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answer = self._answers.get(request.path)
        if answer is None:
            is_refused = DRAINING.is_set() and request.path.startswith(_API_PREFIXES)
            return _expected(error_response(ServerDraining())) if is_refused else self._get_response(request)
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        return answer()


def healthy() -> HttpResponseBase:
    return JsonResponse({"status": "ok"})


def ready() -> HttpResponseBase:
    """200 when requests can be served; 503 while draining or without a database."""
    if DRAINING.is_set():
        return _unready("draining")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        log.warning("database unreachable", exc_info=error)
        return _unready("database")
    return JsonResponse({"status": "ok"})


def _unready(cause: str) -> HttpResponseBase:
    return _expected(JsonResponse({"status": "unavailable", "cause": cause}, status=503, headers={"retry-after": "1"}))


def _expected(response: HttpResponseBase) -> HttpResponseBase:
    """A 503 that is no error for the log."""
    response._has_been_logged = True  # type: ignore[attr-defined] # Django's own mark
    return response
