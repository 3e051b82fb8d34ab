"""Leading whoever has to sign in to that step, and back to the page that he was looking at."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect


def to_step(request: HttpRequest, step: str, page: str, *, below: str, otherwise: str) -> HttpResponse:
    """To the URL of a step, which leads on to `page`.

    htmx follows a redirect by itself and would put the step into the page: it is told to leave the page instead. Then the
    step leads back to the page that is open, if that is below this path, else to `otherwise`.
    """
    if "HX-Request" not in request.headers:
        return HttpResponseRedirect(_leading_on(step, page))
    shown = _path_shown(request)
    page = shown if shown.startswith(below) else otherwise
    return HttpResponse(status=204, headers={"HX-Redirect": _leading_on(step, page)})


def _leading_on(step: str, page: str) -> str:
    return f"{step}?{urlencode({REDIRECT_FIELD_NAME: page})}"


def _path_shown(request: HttpRequest) -> str:
    """Path and query of the page that htmx says is open; empty for what is no URL."""
    try:
        return urlsplit(request.headers.get("HX-Current-URL", ""))._replace(scheme="", netloc="", fragment="").geturl()
    except ValueError:
        return ""
