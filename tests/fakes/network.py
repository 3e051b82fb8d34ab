"""A network that can be broken: a TCP proxy on loopback, in a thread of the test's process.

It stands before a server (a port of loopback, or a socket file) and passes on what comes, until a test says what ails it.
A toxic changes what happens to the answers of the server, also on connections that are open already. When it ends, links
on which bytes were lost or changed are reset, as a network does sooner or later; the others live on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Any, Self

PIECE_BYTES = 64 * 1024


class Toxic:
    """What a healthy network does. The others change a part of it."""

    is_down = False

    async def toward_server(self, link: Link, data: bytes) -> None:
        await link.to_server(data)

    async def toward_client(self, link: Link, data: bytes) -> None:
        await link.to_client(data)

    async def at_end(self, link: Link) -> None:
        """The server has closed the connection."""
        link.close()


class Latency(Toxic):
    """Every answer comes late."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    async def toward_client(self, link: Link, data: bytes) -> None:
        await asyncio.sleep(self._delay_s)
        await link.to_client(data)


class Bandwidth(Toxic):
    """Answers trickle."""

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s

    async def toward_client(self, link: Link, data: bytes) -> None:
        step_bytes = max(self._bytes_per_s // 50, 1)
        for start in range(0, len(data), step_bytes):
            piece = data[start : start + step_bytes]
            await asyncio.sleep(len(piece) / self._bytes_per_s)
            await link.to_client(piece)


class SlowClose(Toxic):
    """That the server has closed is heard late."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    async def at_end(self, link: Link) -> None:
        await asyncio.sleep(self._delay_s)
        link.close()


class BlackHole(Toxic):
    """Connections open, and nothing passes in either direction."""

    async def toward_server(self, link: Link, data: bytes) -> None:
        link.is_spoiled = True

    async def toward_client(self, link: Link, data: bytes) -> None:
        link.is_spoiled = True

    async def at_end(self, link: Link) -> None:
        link.is_spoiled = True


class Reset(Toxic):
    """Whoever asks is reset."""

    async def toward_server(self, link: Link, data: bytes) -> None:
        link.reset()


class Slicer(Toxic):
    """Answers come byte by byte, each in a packet of its own as far as the system lets it."""

    async def toward_client(self, link: Link, data: bytes) -> None:
        for number in range(len(data)):
            await link.to_client(data[number : number + 1])
            await asyncio.sleep(0)


class Limit(Toxic):
    """The connection is closed after so many bytes of answers."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes

    async def toward_client(self, link: Link, data: bytes) -> None:
        left_bytes = self._size_bytes - link.answered_bytes
        await link.to_client(data[: max(left_bytes, 0)])
        if len(data) >= left_bytes:
            await self._end(link)

    async def _end(self, link: Link) -> None:
        link.close()


class HalfClose(Limit):
    """After so many bytes of answers nothing more comes, while whoever asked may still send."""

    async def _end(self, link: Link) -> None:
        link.is_spoiled = True
        link.end_answers()


class Down(Toxic):
    """Nobody listens, and what was open is closed."""

    is_down = True


class Corrupt(Toxic):
    """Every byte of an answer arrives as another one."""

    async def toward_client(self, link: Link, data: bytes) -> None:
        link.is_spoiled = True
        await link.to_client(bytes(byte ^ 0xA5 for byte in data))


class Link:
    """One connection through the proxy, both ends of it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._client = client
        self._server = server
        self._has_ended = False
        self.answered_bytes = 0
        self.is_spoiled = False

    async def to_client(self, data: bytes) -> None:
        self.answered_bytes += len(data)
        if data and not self._has_ended:
            self._client.write(data)
            await self._client.drain()

    async def to_server(self, data: bytes) -> None:
        self._server.write(data)
        await self._server.drain()

    def end_answers(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._client.write_eof()

    def close(self) -> None:
        self._client.close()
        self._server.close()

    def reset(self) -> None:
        with contextlib.suppress(OSError):  # it may be closed already
            connection = self._client.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._client.transport.abort()
        self._server.close()


class FaultProxy:
    """Before one server, which is a port of loopback or the path of a socket file. Healthy at first."""

    def __init__(self, server: int | str) -> None:
        self._server = server
        self._toxic = Toxic()
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        # Bound and not listening: refuses while the proxy is down, and nobody else can take the port.
        self._place = _bound(0)
        self.port: int = self._place.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._place.close()

    @contextlib.contextmanager
    def suffering(self, toxic: Toxic) -> Iterator[None]:
        """The network has this toxic while the block runs."""
        self._call(self._turn(toxic))
        try:
            yield
        finally:
            self._call(self._heal())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, sock=_bound(self.port))

    async def _turn(self, toxic: Toxic) -> None:
        self._toxic = toxic
        for link in self._links:
            link.answered_bytes = 0
        if toxic.is_down and self._listener is not None:
            self._listener.close()
            for link in list(self._links):
                link.close()

    async def _heal(self) -> None:
        was_down, self._toxic = self._toxic.is_down, Toxic()
        for link in list(self._links):
            if link.is_spoiled:
                link.reset()
        if was_down:
            await self._listen()

    async def _stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._join(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self._server, int):
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server)
        else:
            server_reader, server_writer = await asyncio.open_unix_connection(self._server)
        link = Link(writer, server_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._pass_answers(server_reader, link))
                directions.create_task(self._pass_questions(reader, link))
        except* OSError:
            pass  # One end is gone, and the other follows.
        finally:
            self._links.discard(link)
            link.close()

    async def _pass_answers(self, reader: asyncio.StreamReader, link: Link) -> None:
        while data := await reader.read(PIECE_BYTES):
            await self._toxic.toward_client(link, data)
        await self._toxic.at_end(link)

    async def _pass_questions(self, reader: asyncio.StreamReader, link: Link) -> None:
        while data := await reader.read(PIECE_BYTES):
            await self._toxic.toward_server(link, data)
        link.close()


def _bound(port: int) -> socket.socket:
    """A socket that shares the port with others of this process."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound
