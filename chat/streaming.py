"""An HTTP consumer that sees its client leave, and the client it hands to the pipeline.

The stock consumer joins the whole body and is deaf while it answers. This one lets the handler read the body when it
wants to (counted and timed while it arrives), watches the connection while the handler works, and cancels the handler at
once when the client leaves. Every answer is ended: errors before the first byte become an answer, errors after it a last
frame of the stream.

Invariant: once the last byte is on its way the watcher is disarmed, because from then on every server reports a
disconnect, also of a client that stays; what runs after the last byte must not be cancelled by it. So it is as soon as the
answer has come to its end (`shield`): what is paid is sent, and kept for a repeat if it is whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from channels.generic.http import AsyncHttpConsumer

from chat.encode import error_frame
from chat.schema.delivery import Way
from infery_site.errors import ApiError, Header, internal_error
from infery_site.health import ServerDraining
from infery_site.middleware import RequestTooLarge, limited
from infery_site.responses import (
    API_HEADERS,
    REQUEST_ID_HEADER,
    Message,
    Receive,
    Send,
    encode_headers,
    error_headers,
    header_lines,
)
from infery_site.wire import Wire

logger = logging.getLogger(__name__)

STREAM_HEADERS: tuple[Header, ...] = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("x-accel-buffering", "no"),
)


class BodyLimits:
    """Bytes and seconds a request body may take."""

    __slots__ = ("chunk_timeout_s", "limit_bytes", "total_timeout_s")

    def __init__(self, limit_bytes: int, chunk_timeout_s: float, total_timeout_s: float) -> None:
        self.limit_bytes = limit_bytes
        self.chunk_timeout_s = chunk_timeout_s
        self.total_timeout_s = total_timeout_s


class HttpClient:
    """The caller at the other end of one HTTP exchange: `chat.schema.delivery.Client` over ASGI, or over the wire where there is one."""

    __slots__ = (
        *("_handler", "_is_shielded", "_limits", "_receive", "_send", "_watcher", "_wire"),
        *("has_left", "is_ended", "is_started", "is_stream", "request_id"),
    )

    def __init__(self, receive: Receive, send: Send, request_id: str, limits: BodyLimits, wire: Wire | None = None) -> None:
        self._receive = receive
        self._send = send
        self._limits = limits
        self._wire = wire
        self._handler: asyncio.Task[Any] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._is_shielded = False
        self.request_id = request_id
        self.is_started = False
        self.is_stream = False
        self.is_ended = False
        self.has_left = False

    async def read_body(self) -> bytes:
        body = None if self._wire is None else self._wire.whole_body()
        if body is None:
            body = await self._received()
        elif len(body) > self._limits.limit_bytes:
            raise RequestTooLarge(self._limits.limit_bytes)
        self._watch()
        return body

    async def _received(self) -> bytes:
        limits = self._limits
        receive = limited(self._receive, limits.limit_bytes, limits.chunk_timeout_s, limits.total_timeout_s)
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts = [body]
            while message.get("more_body"):
                message = await receive()
                parts.append(message.get("body", b""))
            body = b"".join(parts)
        if message["type"] == "http.disconnect":
            self.has_left = True
            raise asyncio.CancelledError
        return body

    def shield(self, *, is_kept: bool = True) -> None:
        self._is_shielded = True

    async def respond(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        every = [("content-type", "application/json"), ("content-length", str(len(body))), *headers]
        if self._wire is None:
            await self._start(status, every)
            await self._finish(body)
            return
        await self._wire.answer(status, header_lines(self._with_own(every)), body)
        self.is_started = self.is_ended = True

    async def open_stream(self, headers: Iterable[Header]) -> None:
        await self._start(200, [*STREAM_HEADERS, *headers])
        self.is_stream = True

    async def send(self, frames: bytes) -> None:
        await self._send({"type": "http.response.body", "body": frames, "more_body": True})

    @property
    def way(self) -> Way | None:
        return self._wire if self.is_stream and not self.is_ended else None

    async def end(self, frames: bytes = b"") -> None:
        await self._finish(frames)

    async def refuse(self, error: ApiError) -> None:
        """Answer an error, wherever the exchange stands."""
        if self.is_ended:
            return
        if self.is_started:
            await self._finish(error_frame(error) if self.is_stream else b"")
            return
        body = error.envelope()
        headers = encode_headers(error_headers(error, self.request_id, body))
        self.is_started = True
        await self._send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self._finish(body)

    def release(self) -> None:
        """The exchange is over; nobody watches any more."""
        if self._watcher is not None:
            self._watcher.cancel()
        elif self._wire is not None:
            self._wire.unwatch(self._leave)

    def _with_own(self, headers: list[Header]) -> list[Header]:
        return [(REQUEST_ID_HEADER, self.request_id), *API_HEADERS, *headers]

    async def _start(self, status: int, headers: list[Header]) -> None:
        encoded = encode_headers(self._with_own(headers))
        self.is_started = True
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def _finish(self, body: bytes) -> None:
        self.is_ended = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _watch(self) -> None:
        self._handler = asyncio.current_task()
        if self._wire is None:
            self._watcher = asyncio.get_running_loop().create_task(self._wait_for_leaving())
        else:
            self._wire.watch(self._leave)

    async def _wait_for_leaving(self) -> None:
        message: Message = {"type": ""}
        while message["type"] != "http.disconnect":
            message = await self._receive()
        self._leave()

    def _leave(self) -> None:
        if self._handler is not None and not self.is_ended:
            self.has_left = True
            if not self._is_shielded:
                self._handler.cancel()


class StreamingConsumer(AsyncHttpConsumer):
    """Base of the consumers that answer through an `HttpClient`. Subclasses make the client and override `answer`."""

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        client = self.client(scope, receive, send)
        try:
            await self._answered(scope, client)
        except asyncio.CancelledError:
            # Everything is settled. If the client left, there is nobody to answer; else the server gave up waiting for us.
            if not client.has_left:
                logger.warning("request cancelled by the server", extra={"request_id": client.request_id})
                await client.refuse(ServerDraining())
        finally:
            client.release()

    async def _answered(self, scope: Any, client: HttpClient) -> None:
        try:
            await self.answer(scope, client)
        except ApiError as error:
            if error.status == 500:
                logger.exception("request failed", extra={"request_id": client.request_id})
            await client.refuse(error)
        except Exception:
            logger.exception("request failed", extra={"request_id": client.request_id})
            await client.refuse(internal_error())

    def client(self, scope: Any, receive: Receive, send: Send) -> HttpClient:
        raise NotImplementedError

    async def answer(self, scope: Any, client: HttpClient) -> None:
        raise NotImplementedError
