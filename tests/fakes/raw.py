"""A TCP server in the test's own loop, for faults below HTTP: each connection is handled by a function of the test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable

Handler = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.discarded_bytes = 0

    async def read_request(self) -> bytes:
        """One request, head and body. Empty if the peer closed without one."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        return head + await self._reader.readexactly(int(fields.get(b"content-length", 0)))

    async def read_head(self) -> bytes:
        """The head of a request. What follows is taken from the network only up to the reader's own small buffer."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def read_exactly(self, size_bytes: int) -> bytes:
        return await self._reader.readexactly(size_bytes)

    async def send(self, *parts: bytes) -> None:
        self._writer.write(b"".join(parts))
        await self._writer.drain()

    async def wait_closed(self) -> float:
        """Read on until the peer closes or resets the connection, and say when that was, on the monotonic clock."""
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(65_536):
                self.discarded_bytes += len(data)
        return time.monotonic()

    async def reset(self) -> None:
        """Close with RST instead of FIN, when what was sent has arrived."""
        await asyncio.sleep(0.02)
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class RawServer:
    """Where the server listens and how many connections it has had."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}/v1/chat/completions"
        self.connection_count = 0


@contextlib.asynccontextmanager
async def raw_server(handle: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Serve each connection by `handle`; it is closed with FIN when `handle` returns."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        place.connection_count += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
                await handle(Peer(reader, writer))
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    place = RawServer(server.sockets[0].getsockname()[1], "https" if tls else "http")
    try:
        yield place
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
