"""HTTP/1.1 as uvicorn speaks it, with limits on the head of a request and JSON for what never reaches the application.

httptools sets no limit of its own: without this, one connection could fill the memory with headers.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from infery_site import ids
from infery_site.errors import ApiError
from infery_site.responses import encode_headers, error_headers

HEAD_LIMIT_BYTES = 16 * 1024
HEADERS_LIMIT = 100

_CLOSE = ("connection", "close")


class HeadersTooLarge(ApiError):
    def __init__(self) -> None:
        message = f"The request has more than {HEADERS_LIMIT} headers, or more than {HEAD_LIMIT_BYTES} bytes of them."
        super().__init__(431, "headers_too_large", message, headers=[_CLOSE])


class MalformedRequest(ApiError):
    def __init__(self) -> None:
        super().__init__(400, "invalid_http", "The request is not well-formed HTTP/1.1.", headers=[_CLOSE])


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. A head over the limits ends it with 431, anything else that is not HTTP with 400."""

    _is_in_head = False
    _head_bytes = 0
    _unfinished_bytes = 0

    def data_received(self, data: bytes) -> None:
        # A header that never ends is never reported by the parser, so what went into an unfinished head is counted, too.
        if self._is_in_head:
            if self._unfinished_bytes > HEAD_LIMIT_BYTES:
                self._end_with(HeadersTooLarge())
                return
            self._unfinished_bytes += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = self._unfinished_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for whatever the parser, or a callback above, refused."""
        self._end_with(HeadersTooLarge() if self._is_head_too_large() else MalformedRequest())

    def _count(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._is_head_too_large():
            raise HeadersTooLarge

    def _is_head_too_large(self) -> bool:
        return self._is_in_head and (self._head_bytes > HEAD_LIMIT_BYTES or len(self.headers) > HEADERS_LIMIT)

    def _end_with(self, error: ApiError) -> None:
        body = error.envelope()
        headers = encode_headers(error_headers(error, ids.request_id(None), body))
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body]))
        self.transport.close()
