"""Posts to addresses that users gave: webhooks. The URL is judged as it is of an image, and no redirect is followed.

Of the answer only the status is read. Whoever asks learns one thing of every refused address, and one of every failure of a
network or a server, as late as another: no answer tells whether somebody listens somewhere.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable, Collection

import httpx

from infery_site.addresses import is_public
from infery_site.fetch import dialling, urls
from infery_site.fetch.errors import InvalidImageUrl
from infery_site.fetch.exchange import Request, opened
from infery_site.fetch.fetcher import PORTS

ANSWER_S = 10.0
FAILURE_LEAST_S = 1.0


# Reading all certificates takes a moment.
_trusted = functools.cache(httpx.create_ssl_context)


class AddressRefused(Exception):
    """No URL of a public address on an allowed port."""


class NoAnswer(Exception):
    """The name is not known, nobody answered in time, or not in HTTP."""


class Poster:
    """`judge` says which addresses may be dialled; `ports` which ports. The rest is for tests."""

    def __init__(
        self,
        *,
        judge: Callable[[str], bool] = is_public,
        ports: Collection[int] = PORTS,
        resolve: dialling.Resolve = dialling.resolve,
        connect: dialling.Connect = dialling.connect,
        tls: ssl.SSLContext | None = None,
        answer_s: float = ANSWER_S,
        failure_least_s: float = FAILURE_LEAST_S,
    ) -> None:
        self._judge = judge
        self._ports = ports
        self._resolve = resolve
        self._connect = connect
        self._tls = tls or _trusted()
        self._answer_s = answer_s
        self._failure_least_s = failure_least_s

    async def check(self, url: str) -> None:
        """Raises AddressRefused for what `post` would not dial now; a name that is not known now may be later."""
        try:
            target = urls.parse(url, self._ports)
            await dialling.addresses_of(target, self._judge, self._resolve)
        except InvalidImageUrl as error:
            raise AddressRefused from error
        except OSError:
            return

    async def post(self, url: str, body: bytes, headers: Collection[tuple[str, str]]) -> int:
        """The status of the answer. Raises AddressRefused, NoAnswer. The body is JSON."""
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._answer_s):
                return await self._post(url, body, headers)
        except InvalidImageUrl as error:
            raise AddressRefused from error
        except OSError as error:
            cause = error
        await asyncio.sleep(started + self._failure_least_s - asyncio.get_running_loop().time())
        raise NoAnswer from cause

    async def _post(self, url: str, body: bytes, headers: Collection[tuple[str, str]]) -> int:
        target = urls.parse(url, self._ports)
        addresses = await dialling.addresses_of(target, self._judge, self._resolve)
        connected = await dialling.dial(addresses, target.port, self._judge, self._connect)
        told = (("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers)
        async with opened(connected, target, self._tls, Request("POST", told, body)) as exchange:
            return (await exchange.head()).status
