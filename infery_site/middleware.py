"""What happens around every request: bodies are counted while they arrive, and every answer carries the API's headers.

Two layers, both without knowledge of any app:

- ASGI, below Django, because Django reads the whole body before its own middleware runs: `limited` wraps `receive` so
  that it refuses a body that is too large or too slow; `BodyLimit` applies it to an application.
- Django: `ApiAnswers`, outermost, and the handlers of unknown URLs and failures. Pages of the consoles keep Django's
  HTML; everything else is answered in JSON, also where the path is unknown.
"""

from __future__ import annotations

import asyncio
import functools
import types
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host
from django.http.response import HttpResponseBase
from django.views import defaults

from infery_site import ids
from infery_site.errors import ApiError, internal_error, quoted
from infery_site.responses import (
    API_HEADERS,
    REQUEST_ID_HEADER,
    Message,
    Receive,
    Send,
    encode_headers,
    error_response,
    send_error,
)

Application = Callable[[Any, Any, Any], Awaitable[None]]  # libraries name the three types differently

PAGE_PREFIXES = ("/admin/", "/accounts/", "/console/", "/docs/")

_CLOSE = ("connection", "close")


class RequestTooLarge(ApiError):
    def __init__(self, limit_bytes: int) -> None:
        message = f"The request body is larger than {limit_bytes} bytes, the limit of this endpoint."
        super().__init__(413, "request_too_large", message, headers=[_CLOSE])


class RequestTimeout(ApiError):
    def __init__(self) -> None:
        message = "The request body did not arrive in time. Check the connection and the Content-Length header."
        super().__init__(408, "request_timeout", message, headers=[_CLOSE])


class InvalidHost(ApiError):
    def __init__(self, host: str) -> None:
        message = f"This gateway does not answer to the host {quoted(host)}. Staff can add it to ALLOWED_HOSTS."
        super().__init__(400, "invalid_host", message)


# Bodies, below Django


def limited(receive: Receive, limit_bytes: int, chunk_timeout_s: float, total_timeout_s: float) -> Receive:
    """`receive`, which raises RequestTooLarge at the byte that crosses the limit, and RequestTimeout when the body stalls.

    `chunk_timeout_s` runs from message to message, `total_timeout_s` from now to the end of the body. After the end
    messages pass untouched, so that a wait for the client's leaving has no limit.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + total_timeout_s
    received_bytes = 0
    is_complete = False

    async def receive_limited() -> Message:
        nonlocal received_bytes, is_complete
        if is_complete:
            return await receive()
        try:
            message = await _within(receive, lambda: min(loop.time() + chunk_timeout_s, deadline))
        except TimeoutError as error:
            raise RequestTimeout from error
        if message["type"] != "http.request":
            return message
        received_bytes += len(message.get("body", b""))
        if received_bytes > limit_bytes:
            raise RequestTooLarge(limit_bytes)
        is_complete = not message.get("more_body", False)
        return message

    return receive_limited


async def _within(receive: Receive, deadline: Callable[[], float]) -> Message:
    """Awaits a message until the deadline (loop time). A message that is there already costs no timer: the usual case."""
    steps: Generator[Any, Any, Message] = receive().__await__()
    try:
        waiting_for = next(steps)
    except StopIteration as finished:
        message: Message = finished.value
        return message
    async with asyncio.timeout_at(deadline()):
        return await _continued(steps, waiting_for)


@types.coroutine
def _continued(steps: Generator[Any, Any, Message], waiting_for: object) -> Generator[Any, Any, Message]:
    """Goes on with an awaitable whose first step was made by hand and waits for something."""
    try:
        yield waiting_for
    except BaseException as error:  # noqa: BLE001 - whatever ends the wait, a cancellation too, belongs to the awaitable
        return (yield from _continued(steps, steps.throw(error)))
    return (yield from steps)


def check_declared_length(headers: Iterable[tuple[bytes, bytes]], limit_bytes: int) -> None:
    """Raises RequestTooLarge when Content-Length already says so, before a byte of the body is read."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value) > limit_bytes:
            raise RequestTooLarge(limit_bytes)


class BodyLimit:
    """An ASGI application in front of another: bodies beyond the limits get 413 or 408, and the connection closes."""

    def __init__(self, application: Application, *, limit_bytes: int, chunk_timeout_s: float, total_timeout_s: float) -> None:
        self._application = application
        self._limit_bytes = limit_bytes
        self._chunk_timeout_s = chunk_timeout_s
        self._total_timeout_s = total_timeout_s

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        refusal: ApiError | None = None

        async def receive_or_refuse() -> Message:
            nonlocal refusal
            try:
                return await counted()
            except ApiError as error:
                refusal = error
                # Django closes what it has read and gives up, without an answer.
                return {"type": "http.disconnect"}

        try:
            check_declared_length(scope["headers"], self._limit_bytes)
            counted = limited(receive, self._limit_bytes, self._chunk_timeout_s, self._total_timeout_s)
            await self._application(scope, receive_or_refuse, send)
        except RequestTooLarge as error:
            refusal = error
        if refusal is not None:
            await send_error(send, refusal, ids.request_id(offered_request_id(scope["headers"])))


def offered_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The caller's label as sent, unchecked."""
    for name, value in headers:
        if name == b"x-request-id":
            return value.decode("latin-1")
    return None


# The Host header


@functools.lru_cache(maxsize=1024)
def is_allowed_host(host: str) -> bool:
    """Whether ALLOWED_HOSTS names the host of a Host header, with or without a port. Django's own rules."""
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


# Django's side


class ApiAnswers:
    """Django middleware, outermost: the request id in and out, the API's headers, and JSON where Django would send HTML."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = ids.request_id(request.headers.get(REQUEST_ID_HEADER))
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self._get_response(request)
        if not is_page(request.path):
            response = _in_json(response)
            for name, value in API_HEADERS:
                response.setdefault(name, value)
        response[REQUEST_ID_HEADER] = request_id
        encode_headers(response.items())  # refuses what may not be written
        return response


def is_page(path: str) -> bool:
    """Whether people look at this path with a browser; everything else belongs to programs."""
    return path.startswith(PAGE_PREFIXES)


def _in_json(response: HttpResponseBase) -> HttpResponseBase:
    """An error that Django or a view answered in another format, in the envelope, with its own headers kept."""
    if response.status_code < 400 or response.get("content-type", "").startswith("application/json"):
        return response
    answer = error_response(_error_of_status(response.status_code))
    if allow := response.get("allow"):
        answer["allow"] = allow
    return answer


def unknown_url() -> ApiError:
    return ApiError(404, "unknown_url", "There is nothing at this URL. The API begins with /v1.")


def _error_of_status(status: int) -> ApiError:
    if status == 404:
        return unknown_url()
    if status == 405:
        return ApiError(405, "method_not_allowed", "This URL takes only the methods that the Allow header names.")
    if status >= 500:
        return internal_error()
    return ApiError(status, "bad_request", "The request cannot be handled as it was sent.")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler400: a Host that is not allowed, and requests that Django finds suspicious."""
    if isinstance(exception, DisallowedHost):
        return error_response(InvalidHost(request.META.get("HTTP_HOST", "")))
    if is_page(request.path):
        return defaults.bad_request(request, exception)
    return error_response(_error_of_status(400))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler404."""
    return defaults.page_not_found(request, exception) if is_page(request.path) else error_response(_error_of_status(404))


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Django's handler500; the exception itself is in the log."""
    return defaults.server_error(request) if is_page(request.path) else error_response(internal_error())
