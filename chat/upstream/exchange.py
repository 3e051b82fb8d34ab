"""One request and its streamed answer over an aiohttp session.

Called by `Upstream`, which bounds how many run at once.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Self

import aiohttp
import httpx
from yarl import URL

from chat.upstream.faults import FAULTS, as_httpx_error
from chat.upstream.messages import Request

# aiohttp knows no write limit: longer bodies go piece by piece under our own. A piece is longer than the amount after
# which aiohttp waits for the socket, so that each one is waited for.
_WATCHED_BODY_BYTES = 64 * 1024
_PIECE_BYTES = 128 * 1024


@functools.lru_cache(maxsize=1024)
def _target(url: str) -> URL:
    return URL(url, encoded=True)


@functools.lru_cache(maxsize=256)
def _client_timeout(connect_s: float, read_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_read=read_s)


class Answer(httpx.AsyncByteStream):
    """An answer whose head has come; iterating gives the body as it arrives, one item for each read.

    `on_close` is called once, when it is closed.
    """

    __slots__ = ("_answer", "_is_closed", "_on_close", "headers", "status_code")

    def __init__(self, answer: aiohttp.ClientResponse, on_close: Callable[[Answer], None]) -> None:
        self.status_code = answer.status
        self.headers = answer.raw_headers
        self._answer = answer
        self._on_close = on_close
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._answer.content.readany()
        except FAULTS as error:
            await self.aclose()
            raise as_httpx_error(error) from error
        if not data:
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            if not self._answer.closed:
                self._answer.close()
            self._on_close(self)


async def send(session: aiohttp.ClientSession, request: Request, on_close: Callable[[Answer], None]) -> Answer:
    """Send `request` and return when the head of the answer is there. Raises httpx.TransportError."""
    try:
        if len(request.body) <= _WATCHED_BODY_BYTES:
            answer = await _post(session, request, request.body, request.headers)
        else:
            answer = await _post_watched(session, request)
    except FAULTS as error:
        raise as_httpx_error(error) from error
    return Answer(answer, on_close)


async def _post(
    session: aiohttp.ClientSession,
    request: Request,
    body: bytes | AsyncIterator[bytes],
    headers: Iterable[tuple[str, str]],
) -> aiohttp.ClientResponse:
    return await session.request(
        "POST",
        _target(request.url),
        data=body,
        headers=headers,
        allow_redirects=False,
        timeout=_client_timeout(request.timeouts.connect_s, request.timeouts.read_s),
    )


async def _post_watched(session: aiohttp.ClientSession, request: Request) -> aiohttp.ClientResponse:
    """Send a long body. Raises httpx.WriteTimeout if the peer takes nothing of it for the write limit."""
    headers = (*request.headers, ("content-length", str(len(request.body))))
    guard = asyncio.timeout(None)
    try:
        async with guard:
            upload = _Upload(request.body, guard, request.timeouts.write_s)
            try:
                return await _post(session, request, upload.pieces(), headers)
            finally:
                upload.is_watched = False
    except TimeoutError as error:
        if guard.expired():
            raise httpx.WriteTimeout("The peer stopped reading the request.") from error
        raise


class _Upload:
    """A body in pieces, each of which pushes the deadline of `guard` back.

    An early answer ends the watching while aiohttp may go on sending; reading the answer has its own limit then.
    """

    __slots__ = ("_body", "_guard", "_write_s", "is_watched")

    def __init__(self, body: bytes, guard: asyncio.Timeout, write_s: float) -> None:
        self._body = body
        self._guard = guard
        self._write_s = write_s
        self.is_watched = True

    async def pieces(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        for start in range(0, len(self._body), _PIECE_BYTES):
            self._set_deadline(loop.time() + self._write_s)
            yield self._body[start : start + _PIECE_BYTES]
        self._set_deadline(None)

    def _set_deadline(self, when: float | None) -> None:
        if self.is_watched:
            self._guard.reschedule(when)
