"""Requests per minute and per day of an API key, for what Django serves: REST Framework asks once it knows who calls."""

from __future__ import annotations

from typing import Protocol

from asgiref.sync import async_to_sync
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from billing.apikeys import Principal
from billing.limits import Limiter, has_request_limit
from infery_site.errors import Header


class View(Protocol):
    """An `infery_site.drf.ApiView`, which cannot be imported here: REST Framework reads its throttles before it has views."""

    answer_headers: tuple[Header, ...]


class KeyLimit(BaseThrottle):
    """Counts the request in the process's limiter. In a process that serves nobody, such as a test's, there is none."""

    def allow_request(self, request: Request, view: View) -> bool:  # type: ignore[override]
        """Raises RateLimitExceeded, with its headers; those of a request that is let in go on its answer."""
        principal, limiter = request.auth, Limiter.serving
        if isinstance(principal, Principal) and has_request_limit(principal) and limiter is not None:
            view.answer_headers = async_to_sync(limiter.count)(principal).headers
        return True
