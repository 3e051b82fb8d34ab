"""What an error of this dialect means (pure): by status, then by the code and type of the error, never by its words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chat.errors import (
    UpstreamAuthFailed,
    UpstreamContextLength,
    UpstreamError,
    UpstreamFailure,
    UpstreamModelUnavailable,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamTooLarge,
)
from chat.providers.base import failure_by_status

_FAILURES: dict[str, type[UpstreamFailure]] = {
    "context_length_exceeded": UpstreamContextLength,
    "invalid_request_error": UpstreamRejected,
    "request_too_large": UpstreamTooLarge,
    "model_not_found": UpstreamModelUnavailable,
    "not_found_error": UpstreamModelUnavailable,
    "authentication_error": UpstreamAuthFailed,
    "invalid_api_key": UpstreamAuthFailed,
    "permission_denied": UpstreamAuthFailed,
    "permission_error": UpstreamAuthFailed,
    "billing_error": UpstreamAuthFailed,
    "billing_hard_limit_reached": UpstreamAuthFailed,
    "billing_not_active": UpstreamAuthFailed,
    "insufficient_quota": UpstreamAuthFailed,
    "rate_limit_error": UpstreamRateLimited,
    "rate_limit_exceeded": UpstreamRateLimited,
    "overloaded": UpstreamOverloaded,
    "overloaded_error": UpstreamOverloaded,
    "engine_overloaded_error": UpstreamOverloaded,
    "timeout_error": UpstreamTimeout,
}
_STATUSES = {str(status): status for status in range(400, 600)}


class _Error(msgspec.Struct):
    code: Any = None
    type: Any = None


class _ErrorBody(msgspec.Struct):
    error: _Error | str | None = None


_decoder = msgspec.json.Decoder(_ErrorBody)


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
    """What a status other than 200 and its body mean."""
    return _meant(status, headers, _error(body))


def failure_inside(body: bytes) -> UpstreamFailure:
    """An error that came with status 200: there are only its code and its type to go by, of which the code tells more.

    Either may be the status that it should have come with (OpenRouter, vLLM and others), as a number or in digits.
    """
    error = _error(body)
    for said in (error.code, error.type):
        status = _STATUSES.get(str(said))
        if status is not None:
            failure = _meant(status, {}, error)
            failure.upstream_status = 200
            return failure
        if isinstance(said, str) and said in _FAILURES:
            return _FAILURES[said](upstream_status=200)
    return UpstreamError(upstream_status=200)


def _meant(status: int, headers: Mapping[str, str], error: _Error) -> UpstreamFailure:
    said = (error.code, error.type)
    if status == 400 and "context_length_exceeded" in said:
        return UpstreamContextLength(upstream_status=status)
    if status == 429 and "insufficient_quota" in said:
        return UpstreamAuthFailed(upstream_status=status)
    return failure_by_status(status, headers)


def _error(body: bytes) -> _Error:
    """The error of a body; an empty one where there is none that can be read."""
    try:
        error = _decoder.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Error()
    return error if isinstance(error, _Error) else _Error()
