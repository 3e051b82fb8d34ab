"""From the upstream's chunks to the client's frames: one send per upstream read, keep-alive comments in silence.

Relay never sends the last chunk: what was used and charged is said after it was booked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from chat.cutting import beginning
from chat.encode import StreamEncoder
from chat.errors import ClientTooSlow
from chat.outcome import Tally, output_bytes
from chat.schema.delivery import Client, Way
from chat.schema.reply import Chunk
from chat.sse import COMMENT
from infery_site.errors import Header
from infery_site.failpoints import reach

READER_LAG_S: Final = 10.0
"""How far a reader may lag behind the time in which his stream has to end."""


class Batches(Protocol):
    """A stream as relay needs it; see `chat.gate`."""

    ends_s: float

    async def next(self) -> list[Chunk] | None: ...

    async def flow(self, sink: Callable[[list[Chunk]], bool]) -> None: ...


class EventStream:
    """The client's event stream: opened when the first real chunk is there, or by the first keep-alive comment.

    The first comment comes after `first_s` of silence, the next after `every_s` each, but none while one still waits for its
    reader. The timer is moved lazily, so that a busy stream pays nothing for it.

    `way` is the client's short way while nothing stands in it, `sent_s` when something was sent last, by the loop's clock: who
    sends by the one keeps the other.
    """

    def __init__(self, client: Client, early_headers: Iterable[Header], *, first_s: float, every_s: float) -> None:
        self._client = client
        self._early_headers = early_headers
        self._every_s = every_s
        self._loop = asyncio.get_running_loop()
        self.sent_s = self._loop.time()
        self.way: Way | None = None
        self._timer = self._loop.call_later(first_s, self._beat)
        self._comment: asyncio.Task[None] | None = None
        self._is_open = False

    async def open(self, headers: Iterable[Header]) -> bool:
        """Open with these headers. False if a keep-alive has opened the stream before."""
        if self._is_open:
            return False
        self._is_open = True
        await self._client.open_stream(headers)
        if self._comment is None:
            self.way = self._client.way
        self.sent_s = self._loop.time()
        return True

    async def send(self, frames: bytes) -> None:
        await self._wait_for_comment()
        self.sent_s = self._loop.time()
        await self._client.send(frames)

    async def end(self, frames: bytes) -> None:
        """Send the last frames and end the stream."""
        self._timer.cancel()
        await self._wait_for_comment()
        await self._client.end(frames)

    async def close(self) -> None:
        """No comment from here on. The stream itself is ended by whoever knows how."""
        self._timer.cancel()
        if self._comment is not None:
            await asyncio.wait([self._comment])

    async def _wait_for_comment(self) -> None:
        if self._comment is not None:
            await self._comment
            self._comment = None
            self.way = self._client.way

    def _beat(self) -> None:
        now_s = self._loop.time()
        due_s = self.sent_s + self._every_s
        if self._comment is not None and not self._comment.done():
            due_s = now_s + self._every_s
        elif not self._is_open or now_s >= due_s:
            self._comment = self._loop.create_task(self._send_comment(has_to_open=not self._is_open))
            self._is_open = True
            self.way = None
            self.sent_s = now_s
            due_s = now_s + self._every_s
        self._timer = self._loop.call_at(due_s, self._beat)

    async def _send_comment(self, *, has_to_open: bool) -> None:
        if has_to_open:
            await self._client.open_stream(self._early_headers)
        await self._client.send(COMMENT)


class Fare(Protocol):
    """The taxi meter and who pays it, as relay needs them."""

    async def pay(self, sent_bytes: int) -> bool:
        """Hold what is due for so much output. False if it cannot be paid."""

    def is_paid(self, sent_bytes: int, /) -> bool:
        """Whether so much output is paid, and nothing is due yet."""

    def paid_bytes(self) -> int:
        """How much output is paid by what is held, where it cannot be had without a limit."""


async def relay(batches: Batches, stream: EventStream, encoder: StreamEncoder, tally: Tally, fare: Fare) -> bool:
    """Send every batch as it comes; False if the stream was cut because credit ran out.

    The tally is kept before the send: what was handed over counts as delivered. Of a batch that cannot be paid, as much as
    can be is sent, so that what a provider sends at once is not free because it is too much.

    Raises ClientTooSlow where the stream's time has passed and its reader, not its provider, is who is waited for.
    """
    delivery = _Delivery(stream, encoder, tally, fare)
    try:
        async with asyncio.timeout(batches.ends_s + READER_LAG_S - time.monotonic()):
            while (batch := await batches.next()) is not None:
                if not await delivery.deliver(batch):
                    return False
                await batches.flow(delivery.pass_on)
            return True
    except TimeoutError as error:
        raise ClientTooSlow from error


class _Delivery:
    """The way of one batch: tallied, encoded, sent. `pass_on` is the way of nearly all, on which nothing has to be waited for."""

    def __init__(self, stream: EventStream, encoder: StreamEncoder, tally: Tally, fare: Fare) -> None:
        self._stream = stream
        self._encoder = encoder
        self._tally = tally
        self._fare = fare
        # Asked for each of thousands of batches: what they need is near.
        self._is_paid = fare.is_paid
        self._now = asyncio.get_running_loop().time

    def pass_on(self, batch: list[Chunk]) -> bool:
        """Deliver it at once. False, and nothing was done, where a hold, a reader or a comment has to be waited for."""
        stream, tally = self._stream, self._tally
        way, size_bytes = stream.way, output_bytes(batch)
        if way is None or not way.is_clear or (size_bytes and not self._is_paid(tally.sent_bytes + size_bytes)):
            return False
        tally.add(batch, size_bytes)
        frames = self._encoder.frames(batch)
        if frames:
            stream.sent_s = self._now()
            way.push(frames)
            reach("relay.sent")
        return True

    async def deliver(self, batch: list[Chunk]) -> bool:
        """Deliver as much of it as is paid. False if that is not all."""
        stream, encoder, tally, fare = self._stream, self._encoder, self._tally, self._fare
        chunks, size_bytes = batch, output_bytes(batch)
        is_paid = not size_bytes or await fare.pay(tally.sent_bytes + size_bytes)
        if not is_paid:
            chunks, size_bytes = _paid_part(batch, fare.paid_bytes() - tally.sent_bytes)
        tally.add(chunks, size_bytes)
        frames = encoder.frames(chunks)
        if not is_paid:
            frames += encoder.cut_frames()
        if frames:
            await stream.send(frames)
            reach("relay.sent")
        return is_paid


def _paid_part(chunks: list[Chunk], paid_bytes: int) -> tuple[list[Chunk], int]:
    """The beginning of a batch of which not everything is paid, and the bytes of output in it."""
    size_bytes = 0
    for position, chunk in enumerate(chunks):
        more_bytes = output_bytes([chunk])
        if size_bytes + more_bytes > paid_bytes:
            begun = beginning(chunk, max(0, paid_bytes - size_bytes))
            return [*chunks[:position], begun], size_bytes + output_bytes([begun])
        size_bytes += more_bytes
    return chunks, size_bytes
