"""A stranger's web server, and a world in which public addresses lead to it: no test leaves the loopback.

The server speaks raw bytes, so that it can say anything. The world's `connect` notes each address that was dialled before
it goes to the server instead; the socket it gives names the address dialled as its peer, as a real one would, and the judge
in every test is the real one.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Self

from infery_site.fetch import Fetcher, Limits

PICTURE = b"\x89PNG\r\n\x1a\n" + b"picture" * 9
PUBLIC = "93.184.215.14"
PATIENT = Limits(queue_s=60, total_s=60, head_s=60, failure_least_s=0)
IMPATIENT = Limits(total_s=0.6, head_s=0.3, failure_least_s=0)

NO_AUTHORITY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Believes nobody; reading everybody's certificates takes longer than most of the tests."""

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes = PICTURE, *, status: str = "200 OK", headers: Sequence[str] = ("Content-Type: image/png",)) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


class Stranger:
    """Answers each path by its entry in `pages`: bytes to send, or what to do with the connection."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes | Talk] = {"/a.png": answer()}
        self.requests: list[bytes] = []
        self.is_asked = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.serve()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def serve(self, tls: ssl.SSLContext | None = None) -> None:
        """Start, or start anew as another server."""
        await self.stop()
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            self.is_asked.set()
            page = self.pages[head.split()[1].decode()]
            if callable(page):
                await page(reader, writer)
            else:
                writer.write(page)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


class Rerouted(socket.socket):
    """Is connected to the stranger, and says that its peer is the one that was dialled."""

    peer = ("", 0)

    def getpeername(self) -> Any:
        return self.peer


class World:
    """`names` holds what a name resolves to: one answer for ever, or one after the other."""

    def __init__(self, stranger: Stranger) -> None:
        self.stranger = stranger
        self.names: dict[str, Any] = {}
        self.looked_up: list[str] = []
        self.dialled: list[str] = []

    def fetcher(self, limits: Limits = PATIENT, *, ports: Sequence[int] = (80, 443), **options: Any) -> Fetcher:
        options = {"tls": NO_AUTHORITY, **options}
        return Fetcher(limits=limits, resolve=self.resolve, connect=self.connect, ports=ports, **options)

    async def resolve(self, host: str, port: int, asker: Hashable = None, /) -> list[str]:
        self.looked_up.append(host)
        answers = self.names.get(host, [PUBLIC])
        is_changing = bool(answers) and isinstance(answers[0], list)
        return list(answers.pop(0) if is_changing else answers)

    async def connect(self, addresses: Sequence[str], port: int) -> socket.socket:
        self.dialled += addresses
        rerouted = Rerouted(socket.AF_INET, socket.SOCK_STREAM)
        rerouted.settimeout(0)
        try:
            await asyncio.get_running_loop().sock_connect(rerouted, ("127.0.0.1", self.stranger.port))
        except BaseException:
            rerouted.close()
            raise
        rerouted.peer = (addresses[0], port)
        return rerouted
