"""The upstream of one process: two connection pools, the sandbox, and a bound on open exchanges.

Bound to the event loop that started it. One pool refuses addresses that are not public, the other is for providers
whose staff said otherwise; connections never move between them.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

import aiohttp
import httpx

from chat.sandbox import SandboxTransport
from chat.upstream import exchange
from chat.upstream.connections import ProviderConnector, public_socket
from chat.upstream.messages import Request, Response

_SANDBOX_PREFIX = "sandbox:"
_SOCKET_PREFIXES = ("https://", "http://")
_DNS_CACHE_S = 30
_HEADER_LIMIT_BYTES = 32 * 1024


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
        self._open: set[exchange.Answer] = set()
        self._public: aiohttp.ClientSession | None = None
        self._private: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Make the pools; nothing is connected yet. Does nothing when they are there."""
        if self._public is None:
            context = self._ssl_context or _default_ssl_context()
            self._public = self._session(context, is_guarded=True)
            self._private = self._session(context, is_guarded=False)

    async def stop(self) -> None:
        """Close every connection; exchanges that are still open end with an httpx.TransportError."""
        sessions = (self._public, self._private)
        self._public = self._private = None
        for answer in tuple(self._open):
            await answer.aclose()
        for session in sessions:
            if session is not None:
                await session.close()

    async def send(self, request: Request) -> Response:
        """Send once and return at the head of the answer, whatever its status. The caller closes the response.

        Raises httpx.TransportError: exactly the kind httpx raises for the same fault.
        """
        if request.url.startswith(_SANDBOX_PREFIX):
            return await self._send_to_sandbox(request)
        if not request.url.startswith(_SOCKET_PREFIXES):
            raise httpx.UnsupportedProtocol("A provider's address begins with http://, https:// or sandbox:")
        session = self._private if request.allow_private_address else self._public
        if session is None:
            raise RuntimeError("The upstream was not started.")
        if self._slots.locked():
            await self._wait_for_slot(request.timeouts.pool_s)
        else:
            await self._slots.acquire()
        try:
            answer = await exchange.send(session, request, self._forget)
        except BaseException:
            self._slots.release()
            raise
        self._open.add(answer)
        return Response(answer.status_code, answer.headers, answer)

    def _forget(self, answer: exchange.Answer) -> None:
        self._open.discard(answer)
        self._slots.release()

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

    def _session(self, context: ssl.SSLContext, *, is_guarded: bool) -> aiohttp.ClientSession:
        connector = ProviderConnector(
            limit=0,
            ssl=context,
            ttl_dns_cache=_DNS_CACHE_S,
            keepalive_timeout=self._keepalive_s,
            socket_factory=public_socket if is_guarded else None,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            max_line_size=_HEADER_LIMIT_BYTES,
            max_field_size=_HEADER_LIMIT_BYTES,
        )


def _default_ssl_context() -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
