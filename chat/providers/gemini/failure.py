"""What Gemini's errors mean: by status first, then by Google's own codes (google.rpc), never by prose.

A wrong key is a 400 there, and so is an account that may not call from where it is or has no billing: both are ours, not
the caller's. The wait of a 429 stands in the details of its body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chat.errors import UpstreamAuthFailed, UpstreamFailure
from chat.providers.base import failure_by_status

_STATUS_OF_CODE = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class _Error(msgspec.Struct):
    code: Any = None
    status: Any = None
    details: Any = None


class _ErrorBody(msgspec.Struct):
    error: _Error | str | None = None


_decoder = msgspec.json.Decoder(_ErrorBody | list[_ErrorBody])


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
    """What a status other than 200 and its body mean."""
    return _meant(status, headers, _error(body) or _Error())


def failure_inside(body: bytes) -> UpstreamFailure | None:
    """The failure that came with status 200, or None where the body is no error."""
    error = _error(body)
    if error is None:
        return None
    status = error.code if isinstance(error.code, int) else _STATUS_OF_CODE.get(str(error.status), 500)
    failure = _meant(status, {}, error)
    failure.upstream_status = 200
    return failure


def _meant(status: int, headers: Mapping[str, str], error: _Error) -> UpstreamFailure:
    details = [detail for detail in error.details if isinstance(detail, dict)] if isinstance(error.details, list) else []
    is_key_refused = any(str(detail.get("reason")).startswith("API_KEY_") for detail in details)
    if status == 400 and (is_key_refused or error.status == "FAILED_PRECONDITION"):
        return UpstreamAuthFailed(upstream_status=status)
    for detail in details:
        delay = detail.get("retryDelay")
        if isinstance(delay, str):
            headers = {**headers, "retry-after": delay.removesuffix("s")}
    return failure_by_status(status, headers)


def _error(body: bytes) -> _Error | None:
    """The error of a body; some answers wrap it into a list of one."""
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    for one in answer if isinstance(answer, list) else [answer]:
        if one.error is not None:
            return one.error if isinstance(one.error, _Error) else _Error()
    return None
