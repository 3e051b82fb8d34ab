"""From a provider's address to a connection that is ready for a request.

A name is looked up once in 30 s; addresses that are not public are dialled only for providers that are allowed them, and
what is judged is the address that is dialled, never the name.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohappyeyeballs
import httpx

from chat.upstream.connection import Connection
from infery_site.addresses import is_public

NAMES_KEPT_S = 30.0

_NEXT_ADDRESS_AFTER_S = 0.25

AddressInfo = tuple[int, int, int, str, Any]
LookUp = Callable[[str, int], Awaitable[Sequence[AddressInfo]]]


class Origin(NamedTuple):
    """What connections are kept by."""

    is_tls: bool
    host: str
    port: int
    is_private_allowed: bool


class Place(NamedTuple):
    """Where a request goes: its origin, and the first two lines of its head."""

    origin: Origin
    first_lines: bytes


@functools.lru_cache(maxsize=1024)
def place(url: str, *, is_private_allowed: bool) -> Place:
    """Raises httpx.UnsupportedProtocol, and httpx.LocalProtocolError for what cannot be put on the wire."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise httpx.UnsupportedProtocol("A provider's address must be a URL.") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise httpx.UnsupportedProtocol("A provider's address begins with http://, https:// or sandbox:")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    authority = parts.netloc.rpartition("@")[2]
    try:
        host.encode("idna")
        first_lines = f"POST {path} HTTP/1.1\r\nhost: {authority}\r\n".encode("ascii")
    except UnicodeError as error:
        raise httpx.LocalProtocolError("A provider's address cannot be sent.") from error
    if " " in path or not (path.isprintable() and authority.isprintable()):
        raise httpx.LocalProtocolError("A provider's address cannot be sent.")
    is_tls = parts.scheme == "https"
    return Place(Origin(is_tls, host, port or (443 if is_tls else 80), is_private_allowed), first_lines)


async def look_up(host: str, port: int) -> Sequence[AddressInfo]:
    """By the system's resolver. Raises OSError."""
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Dialler:
    """Makes connections. `on_lost` is called for each of them once, when it is gone."""

    def __init__(self, context: ssl.SSLContext, on_lost: Callable[[Connection], None], look_up: LookUp = look_up) -> None:
        self._context = context
        self._on_lost = on_lost
        self._look_up = look_up
        self._names: dict[tuple[str, int], tuple[float, asyncio.Task[Sequence[AddressInfo]]]] = {}

    async def dial(self, origin: Origin, connect_s: float) -> Connection:
        """Raises httpx.ConnectTimeout and httpx.ConnectError."""
        try:
            async with asyncio.timeout(connect_s):
                return await self._connect(origin)
        except TimeoutError as error:
            raise httpx.ConnectTimeout("The peer did not take the connection in time.") from error
        except OSError as error:
            raise httpx.ConnectError(f"{origin.host}: {str(error) or type(error).__name__}") from error

    async def _connect(self, origin: Origin) -> Connection:
        addresses = await self._addresses(origin)
        if not origin.is_private_allowed:
            addresses = [info for info in addresses if is_public(str(info[4][0]))]
            if not addresses:
                raise OSError("this is not a public address, and the provider does not allow private ones")
        connected = await _socket(addresses)
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self._on_lost),
                sock=connected,
                ssl=self._context if origin.is_tls else None,
                server_hostname=origin.host if origin.is_tls else None,
            )
        except BaseException:
            connected.close()
            raise
        return connection

    async def _addresses(self, origin: Origin) -> Sequence[AddressInfo]:
        """One look-up for all who ask at once, and for a while. One that failed is forgotten."""
        literal = _literal(origin)
        if literal is not None:
            return [literal]
        name, now_s = (origin.host, origin.port), asyncio.get_running_loop().time()
        kept_until_s, answer = self._names.get(name, (0.0, None))
        if answer is None or now_s >= kept_until_s or (answer.done() and (answer.cancelled() or answer.exception())):
            answer = asyncio.ensure_future(_asked(self._look_up, *name))
            answer.add_done_callback(_retrieve)  # also when everybody who asked has left
            self._names[name] = (now_s + NAMES_KEPT_S, answer)
        return await asyncio.shield(answer)


async def _asked(look_up: LookUp, host: str, port: int) -> Sequence[AddressInfo]:
    return await look_up(host, port)


def _retrieve(answer: asyncio.Task[Sequence[AddressInfo]]) -> None:
    if not answer.cancelled():
        answer.exception()


def _literal(origin: Origin) -> AddressInfo | None:
    """None for a name."""
    try:
        address = ipaddress.ip_address(origin.host)
    except ValueError:
        return None
    is_v4 = address.version == 4
    peer = (str(address), origin.port) if is_v4 else (str(address), origin.port, 0, 0)
    return (socket.AF_INET if is_v4 else socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", peer)


async def _socket(addresses: Sequence[AddressInfo]) -> socket.socket:
    """A socket to the first of `addresses` that takes one, the families in turn (RFC 8305). Raises OSError."""
    try:
        return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER_S, interleave=1)
    except RuntimeError as error:  # how uvloop says it now and then
        raise OSError(str(error)) from error
