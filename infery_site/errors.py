"""The one error a caller of the API can meet, and its one encoder.

Every refusal is an `ApiError`: a status, a machine-readable `code`, a message that names the field and the limit, an
optional `param` path, and response headers. The apps derive the errors they raise often:

    ApiError
      billing.errors    keys, workspaces, credit, budgets, limits, idempotency
      chat.errors       the request (400, 404, 413) and what an upstream did (429, 502, 503, 504)

The envelope is `{"error": {"message", "type", "code", "param"}}`; `type` follows from the status alone, because the
official SDKs choose their exception class from the status. Messages never carry a stack, a path, SQL, upstream prose,
or more than 64 characters of what the caller sent (`quoted`).

Pure: no Django, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

Header = tuple[str, str]

ENVELOPE_CONTENT_TYPE = "application/json; charset=utf-8"
NO_RETRY: Header = ("x-should-retry", "false")

_TYPES_BY_STATUS = {
    401: "auth_error",
    402: "quota_exceeded",
    403: "auth_error",
    429: "rate_limit_error",
}


def error_type(status: int) -> str:
    """The envelope's `type` for an HTTP status."""
    if status >= 500:
        return "server_error"
    return _TYPES_BY_STATUS.get(status, "invalid_request_error")


def quoted(value: object, limit: int = 64) -> str:
    """What the caller sent, shortened and without control characters, for use inside a message."""
    text = str(value)
    shown = "".join(character if character.isprintable() else "?" for character in text[:limit])
    return f"'{shown}…'" if len(text) > limit else f"'{shown}'"


class ApiError(Exception):
    """A refusal with its answer. `headers` are added to the response (names in lower case)."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Iterable[Header] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers: tuple[Header, ...] = tuple(headers)

    @property
    def type(self) -> str:
        return error_type(self.status)

    def envelope(self) -> bytes:
        """The JSON body, the same for a whole answer and for a `data:` frame of a stream."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})


class ContentError(Exception):
    """Something that a request brought or named cannot be used. Whoever knows in which field it stood answers `at(param)`.

    Subclasses give `code` and `text`, which names the field by `{param}`.
    """

    status = 400
    code = ""
    text = ""

    def __init__(self) -> None:
        super().__init__(self.text)

    def at(self, param: str) -> ApiError:
        return ApiError(self.status, self.code, self.text.format(param=param), param=param)


def internal_error(*headers: Header) -> ApiError:
    """Our bug: a constant text, so that nothing of it leaks."""
    message = "The gateway failed to handle this request. Quote the x-request-id when you report it."
    return ApiError(500, "internal_error", message, headers=headers)
