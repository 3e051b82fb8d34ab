"""The upstream of one process: its connections, the sandbox, and a bound on open exchanges.

Bound to the event loop that started it. Connections are kept by where they lead and by whether that may be a private
address, so that the permission of one provider is never used by another.
"""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
from collections import defaultdict
from collections.abc import Callable
from typing import Self, cast

import httpx

from chat.sandbox import SandboxTransport
from chat.upstream.connection import Connection
from chat.upstream.dialling import Dialler, Origin, place
from chat.upstream.messages import Request, Response

_SANDBOX_PREFIX = "sandbox:"
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch


class Upstream:
    """Sends requests to providers. `send` may be called from any number of tasks of its loop.

    `keepalive_s` is how long an idle connection is kept, `max_exchanges` how many may be open at once. `sandbox`
    answers requests to `sandbox:` addresses.
    """

    def __init__(
        self,
        *,
        max_exchanges: int = 2048,
        keepalive_s: float = 30.0,
        ssl_context: ssl.SSLContext | None = None,
        sandbox: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._keepalive_s = keepalive_s
        self._ssl_context = ssl_context
        self._sandbox = sandbox or SandboxTransport()
        self._slots = asyncio.Semaphore(max_exchanges)
        self._connections: set[Connection] = set()
        self._idle: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self._dialler: Dialler | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Nothing is connected yet. Does nothing when it was started."""
        if self._dialler is None:
            self._dialler = Dialler(self._ssl_context or _default_ssl_context(), self._connections.discard)

    async def stop(self) -> None:
        """Close every connection; exchanges that are still open end with an httpx.TransportError."""
        self._dialler = None
        self._idle.clear()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in tuple(self._connections):
            connection.abort(httpx.ReadError("The gateway stops."))

    async def send(self, request: Request) -> Response:
        """Send once and return at the head of the answer, whatever its status. The caller closes the response.

        Raises httpx.TransportError: exactly the kind httpx raises for the same fault.
        """
        if request.url.startswith(_SANDBOX_PREFIX):
            return await self._send_to_sandbox(request)
        if self._dialler is None:
            raise RuntimeError("The upstream was not started.")
        origin, first_lines = place(request.url, is_private_allowed=request.allow_private_address)
        head = b"%b%bcontent-length: %d\r\n\r\n" % (first_lines, _header_lines(request.headers), len(request.body))
        limits = request.timeouts
        ends_s = asyncio.get_running_loop().time() + limits.total_s
        if self._slots.locked():
            await self._wait_for_slot(min(limits.pool_s, limits.total_s))
        else:
            await self._slots.acquire()
        try:
            return await self._exchange(origin, head, request, ends_s)
        except BaseException:
            self._slots.release()
            raise

    async def _exchange(self, origin: Origin, head: bytes, request: Request, ends_s: float) -> Response:
        limits = request.timeouts
        connection = self._kept(origin) or await self._dialled(origin, limits.connect_s, ends_s)
        try:
            await connection.send(head, request.body, read_s=limits.read_s, write_s=limits.write_s, ends_s=ends_s)
        except BaseException:
            connection.abort()
            raise
        return Response(
            connection.status_code,
            connection.headers,
            _Body(connection, functools.partial(self._take_back, origin, connection)),
            connection,
        )

    def _kept(self, origin: Origin) -> Connection | None:
        """The connection used last of those that are idle and fresh."""
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if connection.is_fresh:
                return connection
            connection.abort()
        return None

    async def _dialled(self, origin: Origin, connect_s: float, ends_s: float) -> Connection:
        if self._dialler is None:
            raise httpx.ConnectError("The gateway stops.")
        left_s = ends_s - asyncio.get_running_loop().time()
        connection = await self._dialler.dial(origin, min(connect_s, left_s))
        if self._dialler is None:
            connection.abort()
            raise httpx.ConnectError("The gateway stops.")
        self._connections.add(connection)
        return connection

    def _take_back(self, origin: Origin, connection: Connection) -> None:
        """An exchange is over: keep its connection or close it."""
        self._slots.release()
        if self._dialler is None or not connection.may_be_kept:
            connection.abort()
            return
        connection.release()
        self._idle[origin].append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._keepalive_s, self._close_idle)

    def _close_idle(self) -> None:
        """Close what was not used for a while; those at the front have been idle longest."""
        loop = asyncio.get_running_loop()
        due_s, self._sweep = loop.time() - self._keepalive_s, None
        for origin, idle in tuple(self._idle.items()):
            kept = [connection for connection in idle if connection.idle_since_s > due_s]
            for connection in idle[: len(idle) - len(kept)]:
                connection.abort()
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        if self._idle:
            self._sweep = loop.call_later(self._keepalive_s / 2, self._close_idle)

    async def _wait_for_slot(self, pool_s: float) -> None:
        try:
            async with asyncio.timeout(pool_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise httpx.PoolTimeout("Too many exchanges with providers are open.") from error

    async def _send_to_sandbox(self, request: Request) -> Response:
        limits = request.timeouts
        response = await self._sandbox.handle_async_request(
            httpx.Request(
                "POST",
                request.url,
                headers=request.headers,
                content=request.body,
                extensions={"timeout": {"connect": limits.connect_s, "read": limits.read_s}},
            )
        )
        stream = cast("httpx.AsyncByteStream", response.stream)
        return Response(response.status_code, response.headers.raw, stream)


class _Body(httpx.AsyncByteStream):
    """The body of an answer whose head has come: one item for each read. Closing it ends the exchange."""

    __slots__ = ("_connection", "_is_closed", "_on_close")

    def __init__(self, connection: Connection, on_close: Callable[[], None]) -> None:
        self._connection = connection
        self._on_close = on_close
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._is_closed or not (data := await self._connection.read()):
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._on_close()


@functools.lru_cache(maxsize=1024)
def _header_lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    """As they go over the wire. Raises httpx.LocalProtocolError for what cannot."""
    if not all(_NAME(name) and _VALUE(value) for name, value in headers):
        raise httpx.LocalProtocolError("A header cannot be sent.")
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")


def _default_ssl_context() -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
