"""HTTP/1.1 as uvicorn speaks it, with limits on heads and on idle readers, and JSON for what never reaches the application.

httptools sets no limit of its own: without this, one connection could fill the memory with headers, or with the trailers
behind a chunked body. Trailers are dropped: what stands there was not seen by who judged the headers.

What belongs to one request is never read as another: an offer to upgrade is ignored (no other protocol is spoken here), a
body in a coding that nobody undoes is refused, and a connection ends where it is unclear whether a body follows. An absolute target carries the host
that counts (RFC 9112, 3.2.2), so it replaces the Host header before anyone judges it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import re
import socket
import struct
import sys
import termios
from typing import Any

from django.conf import settings
from httptools import HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from infery_site import ids
from infery_site.addresses import unmapped
from infery_site.errors import ApiError
from infery_site.responses import encode_headers, error_headers
from infery_site.transport import ClientTransport
from infery_site.wire import EXTENSION, Line

HEAD_LIMIT_BYTES = 16 * 1024
HEADERS_LIMIT = 100
STALLED_BELOW_BYTES = 32 * 1024
LAST_WORD_S = 0.25

_CLOSE = ("connection", "close")
_RESET = struct.pack("ii", 1, 0)  # linger, and not a moment
_ABSOLUTE_TARGET = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
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
    """One connection. A head over the limits ends it with 431, anything else that is not HTTP with 400.

    Where no request runs, the whole head of one must come within `timeout_keep_alive`. Where an answer waits for its reader, as
    whatever writes it then does, he must take so much of it in each CLIENT_STALL_S that the wait soon ends: half of it, or
    STALLED_BELOW_BYTES. Else the connection is reset, and the request ends as if he had left.
    """

    _is_in_head = False
    _is_deaf = False
    _head_bytes = 0
    _fields = 0
    _silent_bytes = 0
    _begun = 0
    _data = b""
    _plain_head = b""
    _unread = b""
    _line: Line
    _client_transport: ClientTransport
    _extensions: dict[str, Any]
    _reader_check: asyncio.TimerHandle | None = None
    _unsent_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:  # of a socket for both kinds of addresses, whose callers have theirs mapped
            self.client = (unmapped(self.client[0]), self.client[1])
        self._client_transport = ClientTransport(transport, self._may_be_sending, self._watch_what_is_unsent)
        self.transport = self._client_transport  # type: ignore[assignment]
        self._line = Line(self._client_transport, self.flow)
        self._extensions = {EXTENSION: self._line}
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_reader()
        self._client_transport.forget()
        super().connection_lost(exc)
        self._line.lose()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_reader()
        if self.transport.is_closing():
            self._watch_what_is_unsent()

    def on_response_complete(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_complete and cycle.body:
            cycle.body = bytearray()  # Nobody reads it any more, however long the connection lasts.
        super().on_response_complete()

    def shutdown(self) -> None:
        """The server leaves. Whose request is on its way to an idle connection is answered, and does not find it reset."""
        cycle: RequestResponseCycle | None = self.cycle
        if self.transport.is_closing():
            self.transport.close()
        elif cycle is None or cycle.response_complete:
            self.loop.call_later(LAST_WORD_S, super().shutdown)
        else:
            super().shutdown()

    def _may_be_sending(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return self._is_deaf or (cycle is not None and cycle.more_body)

    def _watch_what_is_unsent(self) -> None:
        # Closing waits for what was not sent yet, and that for the reader.
        if self._reader_check is None and self.transport.get_write_buffer_size():
            self._watch_reader()

    def _watch_reader(self) -> None:
        self._unsent_bytes = self._count_unsent()
        self._reader_check = self.loop.call_later(settings.CLIENT_STALL_S, self._check_reader)

    def _check_reader(self) -> None:
        enough_bytes = min(STALLED_BELOW_BYTES, max(1, self._unsent_bytes // 2))
        if self._unsent_bytes - self._count_unsent() >= enough_bytes:
            self._watch_reader()
            return
        # A reset, with which the system forgets what it keeps for him.
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def _count_unsent(self) -> int:
        """Bytes of answers that have not arrived: those that are kept here and, where the system tells, those it keeps."""
        queued = 0
        with contextlib.suppress(OSError):
            connection = self.transport.get_extra_info("socket").fileno()
            queued = int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return self.transport.get_write_buffer_size() + queued

    def _forget_reader(self) -> None:
        if self._reader_check is not None:
            self._reader_check.cancel()
            self._reader_check = None

    def data_received(self, data: bytes) -> None:
        if self._client_transport.is_closing():
            return
        # uvicorn ends the wait for the next request with any byte. Only a request ends it here: not the beginning of one
        # that never comes whole, and not the rest of a body that was answered already and that nobody reads.
        waiting, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
        self._take(data)
        if waiting is None or self.timeout_keep_alive_task is not None:
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.timeout_keep_alive_task = waiting
        else:
            waiting.cancel()

    def _take(self, data: bytes) -> None:
        # A header, a trailer or a chunk extension that never ends is never reported by the parser: what came since the
        # parser last reported anything is counted, too.
        if self._silent_bytes > HEAD_LIMIT_BYTES:
            self._end_with(HeadersTooLarge())
            return
        self._silent_bytes += len(data)
        # A loop, because each of many requests on one connection may offer an upgrade.
        while data and not self._is_deaf:
            self._data, self._unread, self._begun = data, b"", 0
            super().data_received(data)
            data = self._unread
        self._data = b""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._is_in_head = True
        self._begun += 1
        self._head_bytes = self._fields = self._silent_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._head_bytes += len(url)
        if self._is_head_too_large():
            raise HeadersTooLarge

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:
            super().on_header(name, value)
        self._fields += 1
        self._head_bytes += len(name) + len(value)
        if self._is_head_too_large():
            raise HeadersTooLarge

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        is_tunnel = False
        if self.parser.should_upgrade():
            is_tunnel = self.parser.get_method() == b"CONNECT"
            if not is_tunnel:
                self._plain_head = self._head_without_upgrade()
                return
        self._check_codings()
        if not self.url.startswith((b"/", b"*")):
            if is_tunnel:
                raise UnknownMethod
            self._take_host_of_target()
        super().on_headers_complete()
        # What follows a tunnel is no request, and whoever asks before it sends a body may not send it at all.
        if is_tunnel or self.expect_100_continue:
            self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._line.cycle = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._silent_bytes = 0
        if not self._plain_head:
            super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Called by uvicorn while it handles that the parser stopped behind a head, where another protocol might begin."""
        stop = sys.exception()
        if self._plain_head and isinstance(stop, HttpParserUpgrade):
            # The parser takes no body after an upgrade and would read it as the next request. A new one reads this
            # request once more, as if the offer had not been made.
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._unread = self._plain_head + self._data[stop.args[0] :]
            self._plain_head = b""
        else:
            self._is_deaf = True

    def _head_without_upgrade(self) -> bytes:
        """The head as it was sent, less the offer; the parser has refused whatever could not be written like this."""
        first = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        return first + b"".join([b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade"]) + b"\r\n"

    def _check_codings(self) -> None:
        """A body must be plain or chunked, and nothing besides: what is compressed would be taken for what it is not."""
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (codings != [b"chunked"] or self.parser.get_http_version() != "1.1"):
            raise MalformedRequest

    def _take_host_of_target(self) -> None:
        """From here on the request is as if it had been sent with a path alone."""
        absolute = _ABSOLUTE_TARGET.match(self.url)
        if absolute is None:
            raise MalformedRequest
        # In place: the scope has this very list.
        self.headers[:] = [(b"host", absolute[1]), *[field for field in self.headers if field[0] != b"host"]]
        rest = self.url[absolute.end() :]
        self.url = rest if rest.startswith(b"/") else b"/" + rest

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn while it handles what the parser, or a callback above, refused."""
        fault = sys.exception()
        cause = fault.__context__ if fault else None
        if self._is_head_too_large():
            self._end_with(HeadersTooLarge())
        elif isinstance(fault, HttpParserInvalidMethodError) and self._begun == 1 and _REQUEST_LINE.match(self._data):
            self._end_with(UnknownMethod())
        else:
            self._end_with(cause if isinstance(cause, ApiError) else MalformedRequest())

    def _is_head_too_large(self) -> bool:
        return self._head_bytes > HEAD_LIMIT_BYTES or self._fields > HEADERS_LIMIT

    def _end_with(self, error: ApiError) -> None:
        if not self._is_answering():
            body = error.envelope()
            headers = encode_headers(error_headers(error, ids.request_id(None), body))
            lines = [name + b": " + value + b"\r\n" for name, value in (*self.server_state.default_headers, *headers)]
            self.transport.write(b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body]))
        # Nothing follows, and whoever was about to write an answer hears that he cannot.
        self._is_deaf = True
        self._line.lose()
        self.transport.close()

    def _is_answering(self) -> bool:
        """Whether what is written now would stand inside another answer, or be taken for it."""
        cycle: RequestResponseCycle | None = self.cycle
        return bool(self.pipeline) or (cycle is not None and cycle.response_started and not cycle.response_complete)
