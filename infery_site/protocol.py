"""HTTP/1.1 as uvicorn speaks it, with limits on the head of a request and JSON for what never reaches the application.

httptools sets no limit of its own: without this, one connection could fill the memory with headers, or with the trailers
behind a chunked body. Trailers are dropped: what stands there was not seen by who judged the headers.
"""

from __future__ import annotations

import re
import sys

from httptools import HttpParserInvalidMethodError
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from infery_site import ids
from infery_site.errors import ApiError
from infery_site.responses import encode_headers, error_headers

HEAD_LIMIT_BYTES = 16 * 1024
HEADERS_LIMIT = 100

_CLOSE = ("connection", "close")
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP/1\.[01]\r\n")


class HeadersTooLarge(ApiError):
    def __init__(self) -> None:
        message = f"The request has more than {HEADERS_LIMIT} headers, or more than {HEAD_LIMIT_BYTES} bytes of them."
        super().__init__(431, "headers_too_large", message, headers=[_CLOSE])


class MalformedRequest(ApiError):
    def __init__(self) -> None:
        super().__init__(400, "invalid_http", "The request is not well-formed HTTP/1.1.", headers=[_CLOSE])


class UnknownMethod(ApiError):
    """A method that no URL takes: the parser does not know it and stops before the URL."""

    def __init__(self) -> None:
        headers = [("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"), _CLOSE]
        super().__init__(405, "method_not_allowed", "No URL of this server takes this method.", headers=headers)


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. A head over the limits ends it with 431, anything else that is not HTTP with 400."""

    _is_in_head = False
    _head_bytes = 0
    _fields = 0
    _silent_bytes = 0
    _data = b""

    def data_received(self, data: bytes) -> None:
        # A header, a trailer or a chunk extension that never ends is never reported by the parser: what came since the
        # parser last reported anything is counted, too.
        if self._silent_bytes > HEAD_LIMIT_BYTES:
            self._end_with(HeadersTooLarge())
            return
        self._silent_bytes += len(data)
        self._data = data
        super().data_received(data)
        self._data = b""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = self._fields = self._silent_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:
            super().on_header(name, value)
        self._fields += 1
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._silent_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn while it handles what the parser, or a callback above, refused."""
        if self._is_head_too_large():
            self._end_with(HeadersTooLarge())
        elif isinstance(sys.exception(), HttpParserInvalidMethodError) and _REQUEST_LINE.match(self._data):
            self._end_with(UnknownMethod())
        else:
            self._end_with(MalformedRequest())

    def _count(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._is_head_too_large():
            raise HeadersTooLarge

    def _is_head_too_large(self) -> bool:
        return self._head_bytes > HEAD_LIMIT_BYTES or self._fields > HEADERS_LIMIT

    def _end_with(self, error: ApiError) -> None:
        body = error.envelope()
        headers = encode_headers(error_headers(error, ids.request_id(None), body))
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body]))
        self.transport.close()
