"""What every view of the management API shares: the error envelope and the base view.

The only module of the kernel that knows Django REST Framework. Authentication is billing's (`billing.api`).
"""

from __future__ import annotations

import math
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.views import APIView, set_rollback

from infery_site.errors import ApiError, Header
from infery_site.responses import error_response


class ApiView(APIView):
    """A view of the API. OPTIONS answers with the methods only; there is no browsable description to give.

    The method is judged before the key, as everywhere: what a URL takes is told to everybody, and OPTIONS to those who
    cannot send a key yet. `answer_headers` go on whatever is answered.
    """

    answer_headers: tuple[Header, ...] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        method = (request.method or "").lower()
        if method not in self.http_method_names or not hasattr(self, method):
            raise exceptions.MethodNotAllowed(method)
        if method != "options":
            super().initial(request, *args, **kwargs)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        final = super().finalize_response(request, response, *args, **kwargs)
        for name, value in self.answer_headers:
            final[name] = value
        return final

    def options(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        return HttpResponse(status=204)  # the Allow header is added to every answer


def exception_handler(exception: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """REST Framework's hook: the envelope for its exceptions and ours, None (a 500 that is logged) for everything else."""
    error = exception if isinstance(exception, ApiError) else _translated(exception)
    if error is None:
        return None
    set_rollback()
    return error_response(error)


def _translated(exception: Exception) -> ApiError | None:
    """The error of a framework's exception, in a constant text: the framework's own may repeat the input."""
    for kind, (status, code, message) in ANSWERS.items():
        if isinstance(exception, kind):
            return ApiError(status, code, message, param=_param(exception), headers=_headers(exception))
    return None


ANSWERS: dict[type[Exception], tuple[int, str, str]] = {
    Http404: (404, "not_found", "There is no such object."),
    exceptions.NotFound: (404, "not_found", "There is no such object."),
    PermissionDenied: (403, "permission_denied", "This key may not do that."),
    exceptions.PermissionDenied: (403, "permission_denied", "This key may not do that."),
    exceptions.NotAuthenticated: (401, "missing_api_key", "No API key was given. Send it as 'Authorization: Bearer inf_...'."),
    exceptions.AuthenticationFailed: (401, "invalid_api_key", "The API key is not valid."),
    exceptions.MethodNotAllowed: (405, "method_not_allowed", "This URL takes only the methods that the Allow header names."),
    exceptions.ParseError: (400, "invalid_json", "The request body is not valid JSON."),
    exceptions.UnsupportedMediaType: (415, "unsupported_media_type", "The request body must be JSON: application/json."),
    exceptions.NotAcceptable: (406, "not_acceptable", "This URL answers in JSON only."),
    exceptions.Throttled: (429, "rate_limit_exceeded", "Too many requests. Wait before the next one."),
    exceptions.ValidationError: (400, "invalid_value", "A field has a value that cannot be used; 'param' names it."),
}


def _param(exception: Exception) -> str | None:
    """The first field that a validation refused."""
    if isinstance(exception, exceptions.ValidationError) and isinstance(exception.detail, dict):
        return next(iter(exception.detail), None)
    return None


def _headers(exception: Exception) -> list[Header]:
    if isinstance(exception, exceptions.NotAuthenticated | exceptions.AuthenticationFailed):
        return [("www-authenticate", "Bearer")]
    if isinstance(exception, exceptions.Throttled):
        return [("retry-after", str(math.ceil(getattr(exception, "wait", None) or 1)))]
    return []
