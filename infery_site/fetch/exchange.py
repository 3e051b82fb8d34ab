"""One request and its answer over a socket that is already connected, closed when it is over.

The peer is a stranger. Its head may have 16 KB, its body what the caller allows, its pace is watched; a body is collected
in one buffer however small the pieces are in which it comes, and trailers are dropped. The socket is handed in by the
caller, which no HTTP client of a library takes: they dial themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable

import httptools
import msgspec

from infery_site.fetch.errors import ImageTooLarge
from infery_site.fetch.urls import Target

HEAD_LIMIT_BYTES = 16 * 1024
USER_AGENT = "infery"

_READ_BYTES = 16 * 1024
_NO_BODY_RATE_BEFORE_S = 1.0


class BrokenAnswer(OSError):
    """The peer does not speak HTTP, says too much before it answers, or leaves before it is done."""


class Head(msgspec.Struct, frozen=True):
    """`headers` have names in lower case; of a name that comes twice, both values."""

    status: int
    headers: dict[str, list[bytes]]

    def first(self, name: str) -> bytes:
        """The value of a header; empty without it."""
        return self.headers.get(name, [b""])[0]


class Request(msgspec.Struct, frozen=True):
    """What is asked beside what every request has. `headers` are ours: nothing of a stranger's stands in them."""

    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


_OF_AN_IMAGE = Request("GET", (("Accept", "image/*"),))


@contextlib.asynccontextmanager
async def opened(
    connected: socket.socket, target: Target, tls: ssl.SSLContext, request: Request | None = None
) -> AsyncIterator[Exchange]:
    """The request is sent when this is entered, and the connection gone when it is left. Raises OSError.

    Without one it is a GET of an image.
    """
    is_secure = target.scheme == "https"
    try:
        reader, writer = await asyncio.open_connection(
            sock=connected, ssl=tls if is_secure else None, server_hostname=target.host if is_secure else None
        )
    except BaseException:
        connected.close()
        raise
    exchange = Exchange(reader)
    try:
        writer.write(_written(target, request or _OF_AN_IMAGE))
        yield exchange
    finally:
        exchange.forget()
        # Not a polite close, which would wait for a peer that may never take its leave.
        writer.transport.abort()


def _written(target: Target, request: Request) -> bytes:
    lines = (
        f"{request.method} {target.path} HTTP/1.1",
        f"Host: {target.authority}",
        f"User-Agent: {USER_AGENT}",
        *(f"{name}: {value}" for name, value in request.headers),
        "Accept-Encoding: identity",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii") + request.body


class Exchange:
    """Reads an answer: its `head`, then its `body`."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._answer = _Answer()
        self._parser = httptools.HttpResponseParser(self._answer)
        self._answer.status = self._parser.get_status_code

    def forget(self) -> None:
        """Break the circle of parser and answer, in which a large body would wait for the garbage collector."""
        del self._answer.status, self._answer.body

    async def head(self) -> Head:
        """Raises BrokenAnswer and other OSErrors."""
        received = 0
        while (head := self._answer.head) is None:
            received += await self._read()
            if received > HEAD_LIMIT_BYTES and self._answer.head is None:
                raise BrokenAnswer("The head of the answer is too long.")
        return head

    async def body(self, *, limit_bytes: int, least_bytes_per_s: int) -> bytes:
        """Raises ImageTooLarge, TimeoutError for a peer that is too slow, and other OSErrors."""
        now = asyncio.get_running_loop().time
        started = now()
        body = self._answer.body
        while not self._answer.is_complete and len(body) <= limit_bytes:
            async with asyncio.timeout_at(started + _NO_BODY_RATE_BEFORE_S + len(body) / least_bytes_per_s):
                await self._read()
        if len(body) > limit_bytes:
            raise ImageTooLarge
        return bytes(body)

    async def _read(self) -> int:
        data = await self._reader.read(_READ_BYTES)
        if not data:
            if not self._answer.ends_with_connection:
                raise BrokenAnswer("The connection ended before the answer did.")
            self._answer.is_complete = True
            return 0
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._answer.is_complete:  # what comes after the answer is nobody's business
                raise BrokenAnswer(str(error)) from error
        return len(data)


class _Answer:
    """What the parser tells. Interim answers (1xx) are passed over, and so is what follows the final one."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.body = bytearray()
        self.is_complete = False
        self.status: Callable[[], int] = lambda: 0
        self._headers: dict[str, list[bytes]] = {}

    @property
    def ends_with_connection(self) -> bool:
        """The answer says nowhere how long it is, so its end is the connection's."""
        return self.head is not None and not {"content-length", "transfer-encoding"} & self.head.headers.keys()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:
            self._headers.setdefault(name.decode("latin-1").lower(), []).append(value)

    def on_headers_complete(self) -> None:
        status = self.status()
        if self.head is None and status >= 200:
            self.head = Head(status, self._headers)
        self._headers = {}

    def on_body(self, data: bytes) -> None:
        if not self.is_complete:
            self.body += data

    def on_message_complete(self) -> None:
        self.is_complete = self.head is not None
