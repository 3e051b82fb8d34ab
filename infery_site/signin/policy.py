"""The Content-Security-Policy of pages: nothing from another host, no script that is not a file of ours.

The admin's theme evaluates expressions in its templates and sets styles inline; it alone may, below its own path.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from infery_site.middleware import is_page

HEADER = "Content-Security-Policy"
_COMMON = (
    "default-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'"
)
STRICT = f"{_COMMON}; script-src 'self'; style-src 'self'"
OF_ADMIN = f"{_COMMON}; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'"


class ContentSecurityPolicy:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if is_page(request.path):
            response.setdefault(HEADER, OF_ADMIN if request.path.startswith("/admin/") else STRICT)
        return response
