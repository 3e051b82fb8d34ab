"""How answers leave the gateway: the one place where header text becomes bytes, and where an `ApiError` becomes a response.

Django views, the middleware and the ASGI consumers all come through here, so no header with a control character or a
byte beyond ASCII can be written, whoever chose its value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from django.http import HttpResponse

from infery_site.errors import ENVELOPE_CONTENT_TYPE, ApiError, Header

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# On every answer of the API: nothing in it may be kept by a cache, or be taken for another type.
API_HEADERS: tuple[Header, ...] = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))
REQUEST_ID_HEADER = "x-request-id"
# On every error: nothing was charged for it.
FREE: Header = ("x-credits-used", "0")


class UnsafeHeaderError(ValueError):
    """A header name or value with a byte outside 0x20-0x7E. The message names the header, not the value."""


def encode_headers(headers: Iterable[Header]) -> list[tuple[bytes, bytes]]:
    """Header text as the bytes that ASGI takes; raises UnsafeHeaderError rather than write what could split an answer."""
    return [(name.encode(), value.encode()) for name, value in _safe(headers)]


def header_lines(headers: Iterable[Header]) -> bytes:
    """The same as they go over the wire."""
    return "".join([f"{name}: {value}\r\n" for name, value in _safe(headers)]).encode()


def _safe(headers: Iterable[Header]) -> list[Header]:
    pairs = list(headers)
    text = "".join([part for pair in pairs for part in pair])
    # Of ASCII, exactly 0x20-0x7E is printable.
    if not (text.isascii() and text.isprintable()):
        unsafe = next(name for name, value in pairs if not ((name + value).isascii() and (name + value).isprintable()))
        raise UnsafeHeaderError(f"the value of the header {unsafe!a} has a byte outside 0x20-0x7E")
    return pairs


def error_response(error: ApiError) -> HttpResponse:
    """The answer of a Django view. The middleware adds the request id and the headers of the API."""
    response = HttpResponse(error.envelope(), status=error.status, content_type=ENVELOPE_CONTENT_TYPE)
    for name, value in (FREE, *error.headers):
        response[name] = value
    return response


def error_headers(error: ApiError, request_id: str, body: bytes) -> list[Header]:
    """All headers of an error that is answered outside Django."""
    return [
        ("content-type", ENVELOPE_CONTENT_TYPE),
        ("content-length", str(len(body))),
        (REQUEST_ID_HEADER, request_id),
        *API_HEADERS,
        FREE,
        *error.headers,
    ]


async def send_error(send: Send, error: ApiError, request_id: str) -> None:
    """Answers an error by ASGI messages."""
    body = error.envelope()
    headers = encode_headers(error_headers(error, request_id, body))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
