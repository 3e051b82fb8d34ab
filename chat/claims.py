"""The stage `claim`: an Idempotency-Key makes a request run once, and repeats get its stored bytes.

Without the header nothing happens here. With it, the first request runs with a client that also remembers what it sends;
a complete 2xx answer is stored before its last bytes leave, and whatever ends otherwise gives the key back. An answer that was
complete and could not be stored does neither: it may have been paid, which whoever asks again is told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from billing import idempotency
from billing.apikeys import Principal
from chat.schema.delivery import Call, Client, Way
from infery_site.errors import Header
from infery_site.failpoints import reach

ROUTE = "POST /v1/chat/completions"
REPLAYED: Header = ("idempotent-replayed", "true")

# What says how the answer came about. Other headers belong to the one request that they were made for.
KEPT_HEADERS = frozenset(
    {"x-model-used", "x-credits-used", "x-fallback-from", "x-fallback-depth", "x-request-adaptations", "x-schema-valid"}
)


class Claimed(msgspec.Struct, frozen=True):
    """The client to answer through, or the answer that a request with this key already had."""

    client: Client
    kept: idempotency.Replay | None = None
    claim: idempotency.Claim | None = None

    async def confirm(self) -> None:
        """Makes sure that the request still has its key, before anything is held for it. Raises what `Claim.confirm` does."""
        if self.claim is not None:
            await self.claim.confirm()


class RecordingClient:
    """A client that also remembers what it is sent, and stores it with the claim before the last bytes leave.

    So whoever has the whole answer can ask for it again at once. What grows too large is not remembered further, and the
    claim, which knows the limit, gives the key back.
    """

    def __init__(self, client: Client, claim: idempotency.Claim) -> None:
        self._client = client
        self._claim = claim
        self._status = 0
        self._headers: list[Header] = []
        self._body = bytearray()
        self.is_complete = False
        self.is_stored = False

    @property
    def has_left(self) -> bool:
        return self._client.has_left

    @property
    def is_started(self) -> bool:
        return self._client.is_started

    async def read_body(self) -> bytes:
        return await self._client.read_body()

    def shield(self, *, is_kept: bool = True) -> None:
        self.is_complete = is_kept
        self._client.shield()

    async def respond(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        self._begin(status, headers)
        await self._store(body)
        await self._client.respond(status, self._headers, body)

    async def open_stream(self, headers: Iterable[Header]) -> None:
        self._begin(200, headers)
        await self._client.open_stream(self._headers)

    async def send(self, frames: bytes) -> None:
        self._remember(frames)
        await self._client.send(frames)

    @property
    def way(self) -> Way | None:
        way = self._client.way
        return None if way is None else _RecordingWay(way, self._remember)

    async def end(self, frames: bytes = b"") -> None:
        await self._store(frames)
        await self._client.end(frames)

    def _begin(self, status: int, headers: Iterable[Header]) -> None:
        self._status = status
        self._headers = list(headers)

    def _remember(self, data: bytes) -> None:
        if len(self._body) <= idempotency.MAX_BODY_BYTES:
            self._body += data

    async def _store(self, last: bytes) -> None:
        if self.is_stored or not self.is_complete:
            return
        self._remember(last)
        self.is_stored = True  # and stays so if this is cancelled: the writing itself is not
        headers = [header for header in self._headers if header[0] in KEPT_HEADERS]
        reach("claim.keeping")
        await self._claim.keep(self._status, headers, bytes(self._body))
        reach("claim.kept")


class _RecordingWay:
    """The client's short way, of which is remembered what goes by it."""

    def __init__(self, way: Way, remember: Callable[[bytes], None]) -> None:
        self._way = way
        self._remember = remember

    @property
    def is_clear(self) -> bool:
        return self._way.is_clear

    def push(self, data: bytes, /) -> None:
        self._remember(data)
        self._way.push(data)


class _Unclaimed(AbstractAsyncContextManager[Claimed]):
    """The block of a request without the header: it costs next to nothing."""

    def __init__(self, client: Client) -> None:
        self._claimed = Claimed(client)

    async def __aenter__(self) -> Claimed:
        return self._claimed

    async def __aexit__(self, *_error: object) -> None:
        return None


def claimed(principal: Principal, call: Call, body: bytes, client: Client) -> AbstractAsyncContextManager[Claimed]:
    """Claim the request's Idempotency-Key while the block runs. Entering raises the refusals of `billing.idempotency`."""
    if call.idempotency_key is None or call.is_dry_run:
        return _Unclaimed(client)
    return _claimed(principal, call, call.idempotency_key, body, client)


@asynccontextmanager
async def _claimed(principal: Principal, call: Call, key: str, body: bytes, client: Client) -> AsyncIterator[Claimed]:
    claim = await idempotency.claim(principal, route=ROUTE, key=key, body=body, generation=call.generation)
    if isinstance(claim, idempotency.Replay):
        yield Claimed(client, claim)
        return
    recording = RecordingClient(client, claim)
    try:
        yield Claimed(recording, claim=claim)
    finally:
        if recording.is_complete and not recording.is_stored:
            claim.abandon()
        elif not recording.is_stored:
            await claim.release()


async def replay(client: Client, kept: idempotency.Replay, headers: Iterable[Header], *, is_stream: bool) -> None:
    """Send a kept answer again, in the mode it was asked for, with the headers of this request."""
    headers = [*kept.headers, REPLAYED, *headers]
    if not is_stream:
        await client.respond(kept.status, headers, kept.body)
        return
    await client.open_stream(headers)
    await client.end(kept.body)
