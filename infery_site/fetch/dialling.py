"""From a host to a connected socket, by way of the judge.

What is dialled is an address out of the answer that was judged, never a name, so a name that changes its mind between two
look-ups gains nothing. A socket that turns out to have another peer than it should is closed before a byte is sent.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import aiohappyeyeballs

from infery_site.fetch.errors import InvalidImageUrl
from infery_site.fetch.urls import Target

RESOLVE_LIMIT_S = 3.0

_MAX_DIALLED = 8
_NEXT_ADDRESS_AFTER_S = 0.25

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
Connect = Callable[[Sequence[str], int], Awaitable[socket.socket]]

# Of their own, so that a resolver that hangs keeps nobody else waiting.
_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="resolve")


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, by the system's resolver. Raises OSError, TimeoutError after RESOLVE_LIMIT_S."""
    async with asyncio.timeout(RESOLVE_LIMIT_S):
        return await asyncio.get_running_loop().run_in_executor(_threads, _look_up, host, port)


def _look_up(host: str, port: int) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


async def connect(addresses: Sequence[str], port: int) -> socket.socket:
    """A socket to the first of `addresses` that takes one, the families in turn (RFC 8305). Raises OSError."""
    try:
        return await aiohappyeyeballs.start_connection(
            [_address_info(address, port) for address in addresses[:_MAX_DIALLED]],
            happy_eyeballs_delay=_NEXT_ADDRESS_AFTER_S,
        )
    except RuntimeError as error:  # how uvloop says it now and then
        raise OSError(str(error)) from error


def _address_info(address: str, port: int) -> tuple[int, int, int, str, tuple[str, int]]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)


async def addresses_of(target: Target, judge: Callable[[str], bool], look_up: Resolve) -> Sequence[str]:
    """Where `target` is, asked once. Raises InvalidImageUrl unless the judge lets every address pass; OSError for none."""
    addresses = [target.host] if target.is_literal else await look_up(target.host, target.port)
    if not addresses:
        raise OSError("The name has no address.")
    if not all(map(judge, addresses)):
        raise InvalidImageUrl
    return addresses


async def dial(addresses: Sequence[str], port: int, judge: Callable[[str], bool], connect_to: Connect) -> socket.socket:
    """A socket whose peer the judge lets pass, too. Raises InvalidImageUrl, OSError."""
    connected = await connect_to(addresses, port)
    try:
        peer = str(connected.getpeername()[0])
    except OSError:  # gone already
        connected.close()
        raise
    if not judge(peer):
        connected.close()
        raise InvalidImageUrl
    return connected
