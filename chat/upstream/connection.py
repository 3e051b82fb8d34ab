"""One HTTP/1.1 connection to a provider, which carries one exchange at a time.

`send` puts a request on the wire and waits for the head of the answer, `read` gives the body as it arrives, `flow` without
waking a task for each part. Nothing here dials, and nothing is ever sent twice. Between exchanges a connection belongs to its
pool; `may_be_kept` says whether it can go back there, `is_fresh` whether its peer still wants it.

Invariants: what came before a fault is given out before the fault is raised; every fault is the httpx exception that httpx
itself would raise for it; a connection that failed, was left early or said more than it was asked is never used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
from collections.abc import Callable
from typing import cast

import httptools
import httpx

HEAD_LIMIT_BYTES = 32 * 1024
# A longer body goes piece by piece, each of which the peer has to take within the write limit. A piece is longer than what
# the transport takes without asking us to wait, so that each one is waited for.
_WATCHED_BODY_BYTES = 64 * 1024
_PIECE_BYTES = 128 * 1024
_UNREAD_MOST_BYTES = 256 * 1024
_OUT_OF_TIME = "The answer was not there when its time was over."


class Connection(asyncio.Protocol):
    """See the module. `on_lost` is called once, when the connection is gone."""

    def __init__(self, on_lost: Callable[[Connection], None]) -> None:
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport = asyncio.Transport()
        self._poll = select.poll()
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._take_error: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_gone = False
        self._is_blocked = False  # The transport has asked us to wait with writing.
        self._is_paused = False  # We have asked the transport to wait with reading.
        self.idle_since_s = 0.0
        self._begin()
        self._is_complete = True

    def _begin(self) -> None:
        self.status_code = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._unsent = memoryview(b"")
        self._parts: list[bytes] = []
        self._unread_bytes = 0
        self._head_bytes = 0
        self._fault: httpx.TransportError | None = None
        self._silent_since_s = 0.0
        self._silence_s = 0.0
        self._ends_s = math.inf
        self._silence_kind: type[httpx.TimeoutException] = httpx.ReadTimeout
        self._ends_with_connection = False
        self._is_complete = False
        self._is_spoiled = False

    @property
    def may_be_kept(self) -> bool:
        """The exchange is over, and the peer expects another one."""
        return self._is_complete and not (
            self._is_spoiled or self._is_gone or self._is_paused or self._is_blocked or self._unsent
        )

    @property
    def is_fresh(self) -> bool:
        """Whether the peer has neither closed an idle connection nor said anything on it.

        A close that arrived while the loop was busy is not yet known to the transport. The socket knows: an idle
        connection has nothing to read.
        """
        return not (self._is_gone or self._is_spoiled or self._transport.is_closing() or self._poll.poll(0))

    async def send(self, head: bytes, body: bytes, *, read_s: float, write_s: float, ends_s: float = math.inf) -> None:
        """Send a request; the head of the answer is in `status_code` and `headers` then. Raises httpx.TransportError.

        The last byte of the answer must be there at `ends_s`, by the loop's clock.
        """
        self._begin()
        self._ends_s = ends_s
        if len(body) <= _WATCHED_BODY_BYTES:
            # In the next turn of the loop, with what others send in this one: a peer of this machine is woken once for all.
            self._loop.call_soon(self._write, head + body)
        else:
            self._transport.write(head)
            await self._upload(body, write_s)
        self._silence_s, self._silence_kind = read_s, httpx.ReadTimeout
        while not self.status_code:
            await self._wait()

    async def read(self) -> bytes:
        """The next part of the body; empty after its end. Raises httpx.TransportError where it breaks."""
        while not self._parts:
            if self._is_complete:
                return b""
            await self._wait()
        parts = self._parts
        if self._is_paused and not self._is_gone:
            self._is_paused = False
            self._transport.resume_reading()
        self._parts, self._unread_bytes = [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def flow(self, take: Callable[[bytes], bool]) -> None:
        """Give the parts of the body to `take` in the moment they come, until it says False, or something has to be read.

        What was given is not read again; all else, the end and a fault as well, is for the next `read`. What `take` raises is
        raised.
        """
        if self._parts or self._is_complete or self._fault is not None:
            return
        self._take, self._take_error = take, None
        try:
            with contextlib.suppress(httpx.TransportError):
                await self._wait()
        finally:
            self._take = None
        if self._take_error is not None:
            raise self._take_error

    def limit_silence(self, read_s: float) -> None:
        """From the next wait on the peer may be silent for so long."""
        self._silence_s = read_s

    def release(self) -> None:
        """The exchange is over and was read to its end. Its timer is kept for the next one, which nearly always ends later."""
        self.idle_since_s = self._loop.time()

    def abort(self, fault: httpx.TransportError | None = None) -> None:
        """Close at once; whoever waits for something gets `fault`.

        A plain close would first wait for unsent bytes of the body, or for the peer's TLS goodbye: a peer that reads
        nothing could keep the connection of a cancelled request open for ever.
        """
        self._stop_timer()
        self._fault = self._fault or fault or httpx.ReadError("The connection was closed by us.")
        self._unsent = memoryview(b"")
        self._transport.abort()
        self._wake()

    def _write(self, request: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(request)

    async def _upload(self, body: bytes, write_s: float) -> None:
        """Send a long body. An early answer ends the waiting, and what is left of the body goes on beside it."""
        self._unsent = memoryview(body)
        self._silence_s, self._silence_kind = write_s, httpx.WriteTimeout
        self._send_more()
        while (self._unsent or self._is_blocked) and not self.status_code:
            await self._wait()

    def _send_more(self) -> None:
        while self._unsent and not self._is_blocked:
            piece, self._unsent = self._unsent[:_PIECE_BYTES], self._unsent[_PIECE_BYTES:]
            self._transport.write(piece)

    async def _wait(self) -> None:
        """Until something has come, was taken, or has failed. Raises the fault."""
        if self._fault is not None:
            raise self._fault
        loop = self._loop
        self._silent_since_s = loop.time()
        if self._silent_since_s >= self._ends_s:
            # Not left to the timer: who drips a byte into each turn of a busy loop would always be there before it.
            fault = self._silence_kind(_OUT_OF_TIME)
            self.abort(fault)
            raise fault
        if self._timer is None:
            self._timer = loop.call_at(self._due_s(), self._check_silence)
        elif self._timer.when() > self._due_s():
            self._timer.cancel()
            self._timer = loop.call_at(self._due_s(), self._check_silence)
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._fault is not None and not self._parts:
            raise self._fault

    def _due_s(self) -> float:
        """When what is waited for must have come."""
        return min(self._silent_since_s + self._silence_s, self._ends_s)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_silence(self) -> None:
        """One timer for all waits, those of the next exchanges too: neither a busy stream nor a short answer pays for it."""
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        due_s = self._due_s()
        if self._loop.time() >= due_s:
            is_over = due_s >= self._ends_s
            self._fail(self._silence_kind(_OUT_OF_TIME if is_over else "The peer was silent for too long."))
        else:
            self._timer = self._loop.call_at(due_s, self._check_silence)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, fault: httpx.TransportError) -> None:
        if not self._is_complete:
            self.abort(fault)
        else:
            self._is_spoiled = True
            self._transport.abort()
            self._wake()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLHUP)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            return
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError(f"The peer's answer is not HTTP: {error}"))
            return
        if not self.status_code:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._fail(httpx.RemoteProtocolError("The head of the peer's answer is too long."))
                return
        waiter = self._waiter
        if self._take is not None and waiter is not None and not waiter.done() and self._parts and not self._is_complete:
            self._hand_over(self._take)
            return
        if self._unread_bytes > _UNREAD_MOST_BYTES and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        # What frames a body ends no silence: who drips that says nothing.
        if self._parts or self._is_complete:
            self._wake()

    def _hand_over(self, take: Callable[[bytes], bool]) -> None:
        parts, self._parts = self._parts, []
        self._silent_since_s = self._loop.time()
        try:
            goes_on = take(parts[0] if len(parts) == 1 else b"".join(parts))
        except Exception as error:  # noqa: BLE001 - it is raised by `flow`
            self._take_error, goes_on = error, False
        # After so many bytes the task reads once: what comes in one callback, megabytes if the loop was busy, is given in turns.
        if not goes_on or self._unread_bytes > _UNREAD_MOST_BYTES:
            self._wake()

    def eof_received(self) -> None:
        """The transport closes itself, and `connection_lost` says what that means."""

    def connection_lost(self, error: Exception | None) -> None:
        self._is_gone = True
        self._parser = None
        self._on_lost(self)
        self._stop_timer()
        if self._is_complete:
            return
        if self._ends_with_connection and error is None and self._fault is None:
            self._is_complete = True
        elif error is None:
            self._fault = self._fault or httpx.RemoteProtocolError("The peer closed the connection before it had answered.")
        else:
            self._fault = self._fault or httpx.ReadError(str(error) or type(error).__name__)
        self._wake()

    def pause_writing(self) -> None:
        self._is_blocked = True

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._send_more()
        self._wake()

    # What the parser tells. Interim answers (1xx) and trailers are passed over.

    def on_message_begin(self) -> None:
        if self._is_complete:
            self._is_spoiled = True  # An answer that nobody asked for.

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status_code:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser is None or self._is_complete:
            return
        status_code = parser.get_status_code()
        if status_code < 200:
            self.headers = []
            return
        if sum([len(name) + len(value) for name, value in self.headers]) > HEAD_LIMIT_BYTES:
            self._fail(httpx.RemoteProtocolError("The head of the peer's answer is too long."))
            return
        self.status_code = status_code
        framing = {name.lower(): value for name, value in self.headers if len(name) in {14, 17}}
        self._ends_with_connection = not (
            b"content-length" in framing or framing.get(b"transfer-encoding", b"").lower().endswith(b"chunked")
        )
        self._wake()

    def on_body(self, data: bytes) -> None:
        if not self._is_complete:
            self._parts.append(data)
            self._unread_bytes += len(data)

    def on_message_complete(self) -> None:
        parser = self._parser
        if parser is not None and self.status_code and not self._is_complete:
            self._is_complete = True
            self._is_spoiled = not parser.should_keep_alive()
