"""The stage `claim`: an Idempotency-Key makes a request run once, and repeats get its stored bytes.

Without the header nothing happens here. With it, the first request runs with a client that also keeps what it sends; a
complete 2xx answer is stored when the request is over, and anything else gives the key back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec

from billing import idempotency
from billing.apikeys import Principal
from chat.schema.delivery import Call, Client
from infery_site.errors import Header

ROUTE = "POST /v1/chat/completions"
REPLAYED: Header = ("idempotent-replayed", "true")


class Claimed(msgspec.Struct, frozen=True):
    """The client to answer through. `is_answered` if a stored answer has been replayed to it already."""

    client: Client
    is_answered: bool = False


class RecordingClient:
    """A client that keeps what it is sent, up to a limit, until it is complete."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.status = 0
        self.headers: list[Header] = []
        self.body = bytearray()
        self.is_complete = False

    @property
    def has_left(self) -> bool:
        return self._client.has_left

    @property
    def is_storable(self) -> bool:
        return self.is_complete and 200 <= self.status < 300 and len(self.body) <= idempotency.MAX_BODY_BYTES

    async def read_body(self) -> bytes:
        return await self._client.read_body()

    async def respond(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        self._begin(status, headers)
        self._keep(body)
        self.is_complete = True
        await self._client.respond(status, self.headers, body)

    async def open_stream(self, headers: Iterable[Header]) -> None:
        self._begin(200, headers)
        await self._client.open_stream(self.headers)
        self.headers = [("content-type", "text/event-stream; charset=utf-8"), *self.headers]

    async def send(self, frames: bytes) -> None:
        self._keep(frames)
        await self._client.send(frames)

    async def end(self) -> None:
        self.is_complete = True
        await self._client.end()

    def _begin(self, status: int, headers: Iterable[Header]) -> None:
        self.status = status
        self.headers = list(headers)

    def _keep(self, data: bytes) -> None:
        if len(self.body) <= idempotency.MAX_BODY_BYTES:
            self.body += data


@asynccontextmanager
async def claimed(principal: Principal, call: Call, body: bytes, client: Client) -> AsyncIterator[Claimed]:
    """Claim the request's Idempotency-Key while the block runs. Raises the refusals of `billing.idempotency`."""
    if call.idempotency_key is None or call.is_dry_run:
        yield Claimed(client)
        return
    claim = await idempotency.claim(principal, route=ROUTE, key=call.idempotency_key, body=body)
    if isinstance(claim, idempotency.Replay):
        await client.respond(claim.status, [*claim.headers, REPLAYED], claim.body)
        yield Claimed(client, is_answered=True)
        return
    recording = RecordingClient(client)
    try:
        yield Claimed(recording)
    finally:
        if recording.is_storable:
            await claim.keep(recording.status, recording.headers, bytes(recording.body))
        else:
            await claim.release()
