"""A stream behind the first-chunk gate: read until something real has come, then given out batch by batch.

A batch is what one read brought. `next` waits for it; `flow` passes batches on within the callback that brought the bytes, which
spares a busy stream the waking of its task for each of them.

What a provider's connection or its events do wrong on the way is a failure that the adapter's words classify; how the bytes
were cut into reads makes no difference to what comes out. A stream has an end in time and in bytes, whatever is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable

from chat import upstream
from chat.errors import (
    UpstreamCrowded,
    UpstreamError,
    UpstreamFailure,
    UpstreamInvalidResponse,
    UpstreamResponseTooLarge,
    UpstreamTimeout,
)
from chat.providers.base import StreamDecoder
from chat.schema.reply import Chunk, ToolState
from chat.sse import SseDecoder, SseError
from chat.structured import JsonStream

GOODBYE_S = 0.05
GATED_MOST = 1_000
"""Chunks that say nothing yet, before the first that does: a role, a number of tokens. Who sends more will never say any."""


class GatedStream:
    """A stream whose first real chunk has come. Ask it by `next` and `flow`; close it whatever happens.

    `states` is the provider state that came with it so far, `ends_s` when its time is over (monotonic).
    """

    def __init__(
        self,
        response: upstream.Response,
        decoder: StreamDecoder,
        on_failure: Callable[[UpstreamFailure], None],
        *,
        most_bytes: int,
        idle_s: float,
        ends_s: float,
    ) -> None:
        self._response = response
        self._parts = _parts(response)
        self._decoder = decoder
        self._on_failure = on_failure
        self._sse = SseDecoder()
        self._has_ended = False
        self._bytes_left = most_bytes
        self._idle_s = idle_s
        self.ends_s = ends_s
        self._kept: list[Chunk] | None = None
        self._failure: UpstreamFailure | None = None
        self.states: list[ToolState] = []

    async def wait_for_content(self) -> None:
        """Read until the first real chunk, or the end. Raises UpstreamFailure."""
        self._kept = gated = []
        while (chunks := await self._read()) is not None:
            gated += chunks
            if any(chunk.is_real for chunk in chunks):
                self._response.limit_silence(self._idle_s)
                return
            if len(gated) > GATED_MOST:
                raise UpstreamInvalidResponse(upstream_status=200)

    async def next(self) -> list[Chunk] | None:
        """The next batch, the gated one first; None after the last. Raises UpstreamFailure where the stream breaks."""
        kept, self._kept = self._kept, None
        if kept is not None:
            return kept
        try:
            return await self._read()
        except UpstreamFailure as failure:
            self._on_failure(failure)
            raise

    async def flow(self, sink: Callable[[list[Chunk]], bool]) -> None:
        """Give batches to `sink` in the moment they come, until it says False, or something has to be waited for.

        A batch that was not taken, and what comes then, is for `next`.
        """

        def take(data: bytes) -> bool:
            try:
                chunks = self._chunks(data)
            except UpstreamFailure as failure:
                self._failure = failure
                return False
            if not sink(chunks):
                self._kept = chunks
                return False
            return self._failure is None and not self._has_ended

        if self._kept is None and self._failure is None and not self._has_ended:
            await self._response.flow(take)

    @property
    def is_schema_valid(self) -> bool | None:
        """Whether the JSON that was asked for came, once the stream has ended; None where nothing was asked or judged."""
        return self._decoder.verdict() if isinstance(self._decoder, JsonStream) else None

    async def aclose(self) -> None:
        """Close the upstream. A stream that came to its end gets a moment to say so, which keeps its connection usable."""
        try:
            if self._decoder.is_done:
                async with asyncio.timeout(GOODBYE_S):
                    await anext(self._parts, None)
        except (TimeoutError, upstream.TransportError):
            pass
        finally:
            await self._response.aclose()

    async def _read(self) -> list[Chunk] | None:
        """The chunks of one read; None after the end.

        Raises UpstreamFailure, but gives what came before it first: how the bytes were cut must make no difference.
        """
        if self._failure is not None:
            raise self._failure
        if self._has_ended:
            return None
        try:
            data = await self._next()
        except upstream.TransportError as error:
            self._end_by(error)
            return []
        return self._chunks(data)

    def _chunks(self, data: bytes | None) -> list[Chunk]:
        """What these bytes complete, None being the end. Raises as `_read` does."""
        chunks: list[Chunk] = []
        decoder = self._decoder
        if data is None:
            self._has_ended = True
        else:
            self._bytes_left -= len(data)
            if self._bytes_left < 0:
                raise UpstreamResponseTooLarge(upstream_status=200)
        try:
            for event in self._sse.flush() if data is None else self._sse.feed(data):
                chunk = decoder.decode(event.event, event.data)
                if chunk is not None:
                    chunks.append(chunk)
                    if chunk.states:
                        self.states += chunk.states
            if decoder.is_done or self._has_ended:
                self._has_ended = True
                decoder.flush()
        except SseError as error:
            raise UpstreamInvalidResponse(upstream_status=200) from error
        except UpstreamFailure as failure:
            if not chunks:
                raise
            self._failure = failure
        return chunks

    async def _next(self) -> bytes | None:
        """The next bytes, None after the last. Raises UpstreamTimeout when the stream's time is over, in a silence as well."""
        left_s = self.ends_s - time.monotonic()
        if left_s <= 0:
            raise UpstreamTimeout(upstream_status=200)
        if left_s >= self._idle_s:  # Then the connection's own limit of a silence is enough.
            return await anext(self._parts, None)
        try:
            async with asyncio.timeout(left_s):
                return await anext(self._parts, None)
        except TimeoutError as error:
            raise UpstreamTimeout(upstream_status=200) from error

    def _end_by(self, error: upstream.TransportError) -> None:
        """The connection broke, which is a good end where the provider had finished; else raises what it means."""
        try:
            self._decoder.flush()
        except UpstreamFailure:
            raise failure_of(error) from error
        self._has_ended = True


def _parts(response: upstream.Response) -> AsyncIterator[bytes]:
    stream = response.stream
    if not isinstance(stream, AsyncIterable):
        raise TypeError("the transport answers with an asynchronous body")
    return aiter(stream)


def failure_of(error: upstream.TransportError) -> UpstreamFailure:
    """What a fault of the transport means for the request."""
    if isinstance(error, upstream.PoolTimeout):
        return UpstreamCrowded()
    if isinstance(error, upstream.TimeoutException):
        return UpstreamTimeout()
    return UpstreamError()
