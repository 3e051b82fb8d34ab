"""From a host to a connected socket, by way of the judge.

What is dialled is an address out of the answer that was judged, never a name, so a name that changes its mind between two
look-ups gains nothing. A socket that turns out to have another peer than it should is closed before a byte is sent.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import aiohappyeyeballs

from infery_site.fetch.errors import InvalidImageUrl
from infery_site.fetch.urls import Target

RESOLVE_LIMIT_S = 3.0
LOOK_UPS = 64
LOOK_UPS_EACH = 16

_MAX_DIALLED = 8
_NEXT_ADDRESS_AFTER_S = 0.25


class Resolve(Protocol):
    """The addresses of a host, for `asker`: whoever may not keep others from having theirs."""

    def __call__(self, host: str, port: int, asker: Hashable = None, /) -> Awaitable[Sequence[str]]: ...


Connect = Callable[[Sequence[str], int], Awaitable[socket.socket]]

# Of their own, so that a resolver that hangs keeps nobody else waiting.
_threads = ThreadPoolExecutor(max_workers=LOOK_UPS, thread_name_prefix="resolve")
_running: Counter[Hashable] = Counter()
_lock = threading.Lock()


async def resolve(host: str, port: int, asker: Hashable = None, /) -> list[str]:
    """The addresses of a name, by the system's resolver. Raises OSError, TimeoutError after RESOLVE_LIMIT_S.

    The system waits longer for a name server that says nothing, and the thread with it. So nobody has more than
    LOOK_UPS_EACH of them.
    """
    with _lock:
        if _running[asker] >= LOOK_UPS_EACH:
            raise OSError("Too many names are being looked up.")
        _running[asker] += 1
    looking = _threads.submit(_look_up, host, port)
    looking.add_done_callback(lambda _: _forget(asker))
    async with asyncio.timeout(RESOLVE_LIMIT_S):
        return await asyncio.wrap_future(looking)


def _forget(asker: Hashable) -> None:
    with _lock:
        _running[asker] -= 1
        if not _running[asker]:
            del _running[asker]


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


async def addresses_of(target: Target, judge: Callable[[str], bool], look_up: Resolve, asker: Hashable = None) -> Sequence[str]:
    """Where `target` is, asked once. Raises InvalidImageUrl unless the judge lets every address pass; OSError for none."""
    addresses = [target.host] if target.is_literal else await look_up(target.host, target.port, asker)
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
