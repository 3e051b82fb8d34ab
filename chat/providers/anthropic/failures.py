"""What an error of this dialect means (pure): by status, then by the type of the error, never by its words."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from chat.errors import (
    UpstreamAuthFailed,
    UpstreamError,
    UpstreamFailure,
    UpstreamModelUnavailable,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamTooLarge,
)
from chat.providers.anthropic.grammar import ANSWER, Error
from chat.providers.base import failure_by_status, retry_after_seconds

_FAILURES: dict[str, type[UpstreamFailure]] = {
    "invalid_request_error": UpstreamRejected,
    "authentication_error": UpstreamAuthFailed,
    "billing_error": UpstreamAuthFailed,
    "permission_error": UpstreamAuthFailed,
    "not_found_error": UpstreamModelUnavailable,
    "request_too_large": UpstreamTooLarge,
    "rate_limit_error": UpstreamRateLimited,
    "timeout_error": UpstreamTimeout,
    "overloaded_error": UpstreamOverloaded,
    "api_error": UpstreamError,
}
_VAGUE_STATUSES = frozenset({400, 500})
"""Statuses under which other servers and proxies hide what the type of the error tells."""


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
    """By status; where it is vague, by the type of the error. That a prompt is too long is told in prose only: not known here."""
    if status in _VAGUE_STATUSES:
        try:
            error = ANSWER.decode(body).error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            error = None
        kind = _kind_of(error)
        if kind is not UpstreamError:
            return _made(kind, status, retry_after_seconds(headers))
    return failure_by_status(status, headers)


def failure_inside(error: Error | None) -> UpstreamFailure:
    """An error that came with status 200."""
    return _made(_kind_of(error), 200, None)


def _kind_of(error: Error | None) -> type[UpstreamFailure]:
    name = error.type if error is not None else None
    return _FAILURES.get(name, UpstreamError) if isinstance(name, str) else UpstreamError


def _made(kind: type[UpstreamFailure], status: int, retry_after_s: int | None) -> UpstreamFailure:
    return kind(upstream_status=status, retry_after_s=retry_after_s)
