"""Fetches images that are named by URL."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Sequence
from weakref import WeakValueDictionary

import httpx
import msgspec

from infery_site.addresses import is_public
from infery_site.fetch import dialling, urls
from infery_site.fetch.errors import FetchesBusy, ImageFetchFailed, ImageTooLarge, InvalidImageUrl
from infery_site.fetch.exchange import Exchange, Head, opened
from infery_site.fetch.urls import Target
from infery_site.sniffing import IMAGE_TYPES, UnsupportedImageFormat, image_type

PORTS = frozenset({80, 443})
MAX_REDIRECTS = 3

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Object stores say one of the last three of whatever was uploaded without a type; the bytes decide then.
_STATED_TYPES = IMAGE_TYPES | {"image/jpg", "image/pjpeg", "application/octet-stream", "binary/octet-stream", ""}

BeforeDial = Callable[[str, Sequence[str]], Awaitable[None]]


class Limits(msgspec.Struct, frozen=True):
    """`total_s` is for all hops, `head_s` for each from dialling to the head of its answer.

    The wait for a place, of which nobody has more than `at_once_each`, may take `queue_s` of `total_s`. A failure takes `failure_least_s`, so that a port that refuses cannot be told from one that says something else.
    """

    total_s: float = 10.0
    head_s: float = 5.0
    least_bytes_per_s: int = 1024
    size_bytes: int = 20 * 1024 * 1024
    failure_least_s: float = 1.0
    at_once: int = 32
    at_once_each: int = 8
    queue_s: float = 5.0


class FetchedImage(msgspec.Struct, frozen=True):
    """`media_type` is what the bytes begin like, whatever the server said."""

    media_type: str
    data: bytes


class Fetcher:
    """Bound to the event loop that first waits in it. The other arguments than `judge` and `limits` are for tests.

    `judge` says which addresses may be dialled; `infery_site.addresses.Judge` knows the installation's own networks.
    """

    def __init__(
        self,
        *,
        judge: Callable[[str], bool] = is_public,
        limits: Limits | None = None,
        resolve: dialling.Resolve = dialling.resolve,
        connect: dialling.Connect = dialling.connect,
        ports: Collection[int] = PORTS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._judge = judge
        self._limits = limits or Limits()
        self._resolve = resolve
        self._connect = connect
        self._ports = ports
        self._tls = tls or httpx.create_ssl_context()
        self._places = asyncio.Semaphore(self._limits.at_once)
        self._own_places: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()

    async def fetch_image(self, url: str, *, before_dial: BeforeDial | None = None, asker: Hashable = None) -> FetchedImage:
        """The image at `url`, for `asker`, who has his share of places and threads and keeps no other from theirs.

        `before_dial` is awaited with the host and its addresses before each connection, redirects included; what it raises ends the fetch,
        so that whoever asks can be kept from having strangers flooded.

        Raises InvalidImageUrl, ImageFetchFailed, ImageTooLarge, UnsupportedImageFormat, InvalidImage for an empty one;
        FetchesBusy without a place.
        """
        target = urls.parse(url, self._ports)
        started = asyncio.get_running_loop().time()
        async with self._place(asker):
            try:
                async with asyncio.timeout_at(started + self._limits.total_s):
                    return await self._fetch(target, before_dial, asker)
            except (OSError, ImageFetchFailed) as error:
                cause = error
        await asyncio.sleep(started + self._limits.failure_least_s - asyncio.get_running_loop().time())
        raise ImageFetchFailed from cause

    @contextlib.asynccontextmanager
    async def _place(self, asker: Hashable) -> AsyncIterator[None]:
        own = self._own_places.setdefault(asker, asyncio.Semaphore(self._limits.at_once_each))
        async with contextlib.AsyncExitStack() as places:
            try:
                async with asyncio.timeout(self._limits.queue_s):
                    await places.enter_async_context(own)
                    await places.enter_async_context(self._places)
            except TimeoutError:
                raise FetchesBusy from None
            yield

    async def _fetch(self, target: Target, before_dial: BeforeDial | None, asker: Hashable) -> FetchedImage:
        for _ in range(MAX_REDIRECTS + 1):
            outcome = await self._hop(target, before_dial, asker)
            if isinstance(outcome, FetchedImage):
                return outcome
            target = outcome
        raise InvalidImageUrl

    async def _hop(self, target: Target, before_dial: BeforeDial | None, asker: Hashable) -> FetchedImage | Target:
        """The image, or where it is said to be."""
        addresses = await dialling.addresses_of(target, self._judge, self._resolve, asker)
        if before_dial is not None:
            await before_dial(target.host, addresses)
        head_by = asyncio.get_running_loop().time() + self._limits.head_s
        async with asyncio.timeout_at(head_by):
            connected = await dialling.dial(addresses, target.port, self._judge, self._connect)
        async with asyncio.timeout_at(head_by) as waiting, opened(connected, target, self._tls) as exchange:
            head = await exchange.head()
            waiting.reschedule(None)
            if head.status in _REDIRECTS and head.first("location"):
                return urls.follow(target, head.first("location"), self._ports)
            self._check(head)
            return await self._read(exchange)

    def _check(self, head: Head) -> None:
        """Refuse by its head what need not be read."""
        if head.status != 200 or any(value.lower() != b"identity" for value in head.headers.get("content-encoding", ())):
            raise ImageFetchFailed
        if head.first("content-type").decode("latin-1").partition(";")[0].strip().lower() not in _STATED_TYPES:
            raise UnsupportedImageFormat
        if head.first("content-length") and int(head.first("content-length")) > self._limits.size_bytes:
            raise ImageTooLarge

    async def _read(self, exchange: Exchange) -> FetchedImage:
        limits = self._limits
        data = await exchange.body(limit_bytes=limits.size_bytes, least_bytes_per_s=limits.least_bytes_per_s)
        return FetchedImage(image_type(data), data)
