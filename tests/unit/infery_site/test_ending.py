"""What is left of a connection that ends, or is about to: nothing that a client could have the gateway keep for it."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import Iterator

import pytest
from uvicorn.server import ServerState

from tests.unit.infery_site.serving import serving

pytestmark = pytest.mark.timeout(20)

BODY = b"a" * 200_000
HEAD = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000000\r\n"


async def refuse(_scope, _receive, send):
    """Without reading what comes."""
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no"})


async def flow(_scope, receive, send):
    """Until the client leaves."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.fixture
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def until_gone(state: ServerState) -> None:
    async with asyncio.timeout(5):
        while state.connections:  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)


async def refused(address, fields):
    """A client whose body was refused and is still coming."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(HEAD + fields + b"\r\n" + BODY)
    await reader.readuntil(b"no")
    return writer


@pytest.mark.usefixtures("_without_collector")
@pytest.mark.parametrize("fields", [b"", b"connection: close\r\n"], ids=["kept", "closed"])
async def test_a_connection_that_is_gone_is_kept_by_nothing(fields):
    """In production what only the collector finds stays for long, with all that was read of it."""
    state = ServerState()
    async with serving(refuse, state) as address:
        writer = await refused(address, fields)
        [connection] = state.connections
        kept = weakref.ref(connection)
        del connection
        writer.close()
        await until_gone(state)
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert kept() is None


@pytest.mark.parametrize("fields", [b"", b"connection: close\r\n"], ids=["kept", "closed"])
async def test_a_body_that_nobody_read_is_dropped_with_the_answer(fields):
    state = ServerState()
    async with serving(refuse, state) as address:
        writer = await refused(address, fields)
        [connection] = state.connections
        await asyncio.sleep(0.05)
        assert connection.cycle.response_complete
        assert not connection.cycle.body
        writer.close()


async def test_a_server_that_leaves_does_not_wait_for_who_lingers(settings):
    settings.CLIENT_LINGER_S = 60
    state = ServerState()
    async with serving(flow, state) as address:
        with socket.create_connection(address, timeout=5) as client:
            client.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
            assert await asyncio.to_thread(client.recv, 65_536)
            client.sendall(b"nonsense\r\n\r\n")
            await asyncio.sleep(0.1)
            [connection] = state.connections
            connection.shutdown()
            await until_gone(state)
