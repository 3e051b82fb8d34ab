"""Clients that do not read what they are sent, over real sockets: the connection is reset, and whoever answers is told."""

import asyncio
import socket

import pytest
from uvicorn.server import ServerState

from infery_site.wire import EXTENSION
from tests.unit.infery_site.serving import serving

PIECE = b"x" * 65_536
PIECES = 128  # more than the buffers of both sides take
QUIET_S = 5.0
CALLER_STALL_S = 0.3


class Answering:
    """Answers with all pieces, one after the other or at once. `left` is set when the server says that the client has gone."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.is_done = asyncio.Event()

    async def __call__(self, scope, receive, send):
        watch = asyncio.create_task(self._watch(receive))
        pieces = [PIECE * PIECES] if scope["path"] == "/whole" else [PIECE] * PIECES
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
        self.is_done.set()
        await watch

    async def _watch(self, receive):
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()


@pytest.fixture
async def answering(settings):
    settings.CLIENT_STALL_S = CALLER_STALL_S
    application = Answering()
    async with serving(application, timeout_keep_alive=1) as address:
        application.address = address
        yield application


def connected(address, path="/"):
    """A client with little room of its own."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    client.connect(address)
    client.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    client.setblocking(False)  # noqa: FBT003 - the socket's own signature
    return client


async def is_reset(client):
    """Whether the connection ended as something that went wrong, and not with a good end in the middle of the answer."""
    try:
        while await asyncio.get_running_loop().sock_recv(client, 1_000_000):
            pass
    except ConnectionResetError:
        return True
    return False


async def test_who_reads_nothing_is_cut_off(answering):
    with connected(answering.address) as client:
        async with asyncio.timeout(QUIET_S):
            await answering.left.wait()
        assert await is_reset(client)


async def test_who_takes_a_few_bytes_now_and_then_is_cut_off_too(answering):
    """Else what is kept for him would be kept for an hour."""
    loop = asyncio.get_running_loop()

    async def sip():
        while True:
            await loop.sock_recv(client, 256)
            await asyncio.sleep(0.05)

    with connected(answering.address) as client:
        sipping = asyncio.create_task(sip())
        async with asyncio.timeout(QUIET_S):
            await answering.left.wait()
        sipping.cancel()
        await asyncio.gather(sipping, return_exceptions=True)


@pytest.mark.slow
async def test_an_answer_that_is_written_already_does_not_wait_for_ever_either(answering):
    with connected(answering.address, "/whole") as client:
        async with asyncio.timeout(QUIET_S):
            await answering.is_done.wait()
            await answering.left.wait()
            await asyncio.sleep(CALLER_STALL_S * 4)
        assert await is_reset(client)


@pytest.mark.slow
async def test_who_reads_slowly_gets_everything(answering):
    """It takes several times as long as a client may stand still."""
    loop = asyncio.get_running_loop()
    with connected(answering.address) as client:
        started_s, size_bytes = loop.time(), 0
        while size_bytes < len(PIECE) * PIECES:
            size_bytes += len(await loop.sock_recv(client, 200_000))
            await asyncio.sleep(0.02)
    assert loop.time() - started_s > CALLER_STALL_S * 3, "too quick to prove anything"


async def test_who_pauses_after_everything_has_arrived_is_left_alone(answering):
    loop = asyncio.get_running_loop()
    with connected(answering.address) as client:
        size_bytes = 0
        while size_bytes < len(PIECE) * PIECES:
            size_bytes += len(await loop.sock_recv(client, 1_000_000))
        await asyncio.sleep(CALLER_STALL_S * 2)
        answering.is_done.clear()
        client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        while not answering.is_done.is_set():
            assert await loop.sock_recv(client, 1_000_000)


@pytest.mark.parametrize("size_bytes", [50_000, 300_000], ids=["little", "much"])
async def test_who_asked_to_close_and_leaves_a_small_rest_unread_is_cut_off(settings, size_bytes):
    """A rest for which nobody has to wait with writing."""
    settings.CLIENT_STALL_S = CALLER_STALL_S
    state = ServerState()

    async def answer(scope, _receive, send):
        line = scope["extensions"][EXTENSION]
        line.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size_bytes)]})
        await send({"type": "http.response.body", "body": b"x" * size_bytes})

    async with serving(answer, state) as address:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.setblocking(False)  # noqa: FBT003 - the socket's own signature
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, address)
            await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            await loop.sock_recv(client, 1)
            [connection] = state.connections
            while connection.transport.get_write_buffer_size() > 16_000:
                await loop.sock_recv(client, 2_000)
            assert connection.transport.get_write_buffer_size()
            async with asyncio.timeout(QUIET_S):
                while state.connections:  # noqa: ASYNC110 - what is waited for sets no event
                    await asyncio.sleep(0.01)
            assert await is_reset(client)
