"""What is written later comes before what is written or closed after it, and is dropped where the connection is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from infery_site.transport import ClientTransport
from infery_site.wire import EXTENSION, Line
from tests.unit.infery_site.serving import serving

pytestmark = pytest.mark.timeout(20)

Act = Callable[[ClientTransport], Awaitable[None]]


async def heard(act: Act) -> bytes:
    """All that a client hears on a connection on which only `act` writes."""

    async def application(scope: Any, _receive: Any, _send: Any) -> None:
        line: Line = scope["extensions"][EXTENSION]
        await act(line.transport)

    async with serving(application) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        got = b""
        with suppress(ConnectionResetError):
            got = await reader.read()
        writer.close()
    return got


async def test_what_waits_goes_before_what_does_not():
    async def act(transport: ClientTransport) -> None:
        transport.write_soon(b"one ")
        transport.write_soon(b"two ")
        transport.write(b"three ")
        transport.write_soon(b"four")
        transport.close()

    assert await heard(act) == b"one two three four"


async def test_what_waits_is_sent_in_the_next_turn_and_counted_until_then():
    sizes = []

    async def act(transport: ClientTransport) -> None:
        transport.write_soon(b"one")
        sizes.append(transport.get_write_buffer_size())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sizes.append(transport.get_write_buffer_size())
        transport.abort()

    assert await heard(act) == b"one"
    assert sizes == [3, 0]


async def test_what_waits_is_dropped_with_the_connection():
    async def act(transport: ClientTransport) -> None:
        transport.write_soon(b"one")
        transport.abort()

    assert await heard(act) == b""
