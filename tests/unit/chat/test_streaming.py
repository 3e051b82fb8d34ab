"""The consumer sees its client leave, ends every answer, and lets what follows the last byte finish."""

from __future__ import annotations

import asyncio
import json

import pytest

from chat.streaming import BodyLimits, HttpClient, StreamingConsumer
from infery_site.errors import ApiError

LIMITS = BodyLimits(limit_bytes=100, chunk_timeout_s=0.2, total_timeout_s=1)


class Connection:
    """An ASGI server's side of one exchange."""

    def __init__(self, *body: bytes) -> None:
        self.sent: list[dict] = []
        self.messages: asyncio.Queue[dict] = asyncio.Queue()
        for position, part in enumerate(body):
            self.messages.put_nowait({"type": "http.request", "body": part, "more_body": position < len(body) - 1})

    async def receive(self) -> dict:
        return await self.messages.get()

    async def send(self, message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            # Servers report a disconnect once an answer is complete, whether the client stays or not.
            self.messages.put_nowait({"type": "http.disconnect"})

    def leave(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def is_ended(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False


def consumer(answer):
    class Consumer(StreamingConsumer):
        def client(self, scope, receive, send):
            return HttpClient(receive, send, "req-1", LIMITS)

        async def answer(self, scope, client):
            await answer(client)

    return Consumer.as_asgi()


async def run(connection: Connection, answer) -> None:
    async with asyncio.timeout(5):
        await consumer(answer)({"type": "http"}, connection.receive, connection.send)


async def test_a_body_in_parts_is_read_whole_and_answered():
    async def answer(client):
        await client.respond(200, [("x-a", "b")], await client.read_body())

    connection = Connection(b"ab", b"cd", b"")
    await run(connection, answer)
    assert connection.body == b"abcd"
    assert connection.headers[b"x-request-id"] == b"req-1"
    assert connection.headers[b"cache-control"] == b"no-store"


@pytest.mark.slow
@pytest.mark.parametrize("body", [(b"x" * 101,), (b"x" * 60, b"x" * 60, b"")])
async def test_a_body_beyond_the_limit_is_413(body):
    async def answer(client):
        await client.read_body()

    connection = Connection(*body)
    await run(connection, answer)
    assert connection.status == 413
    assert connection.is_ended


@pytest.mark.slow
async def test_a_body_that_stalls_is_408():
    async def answer(client):
        await client.read_body()

    connection = Connection(b"half", b"")
    connection.messages.get_nowait()
    connection.messages.get_nowait()
    connection.messages.put_nowait({"type": "http.request", "body": b"half", "more_body": True})
    await run(connection, answer)
    assert connection.status == 408


async def test_a_client_that_leaves_cancels_the_handler_at_once():
    seen = []

    async def answer(client):
        await client.read_body()
        try:
            await asyncio.sleep(4)
        except asyncio.CancelledError:
            seen.append(client.has_left)
            raise

    connection = Connection(b"{}")
    task = asyncio.create_task(run(connection, answer))
    await asyncio.sleep(0.05)
    connection.leave()
    await asyncio.wait_for(task, 1)
    assert seen == [True]


async def test_a_client_that_leaves_when_the_answer_is_complete_cancels_nothing():
    seen = []

    async def answer(client):
        await client.read_body()
        client.shield()
        await asyncio.sleep(0.2)
        seen.append(client.has_left)
        await client.respond(200, [], b"{}")
        seen.append("answered")

    connection = Connection(b"{}")
    task = asyncio.create_task(run(connection, answer))
    await asyncio.sleep(0.05)
    connection.leave()
    await asyncio.wait_for(task, 1)
    assert seen == [True, "answered"]


async def test_what_runs_after_the_last_byte_is_not_cancelled():
    finished = []

    async def answer(client):
        await client.read_body()
        await client.open_stream([])
        await client.send(b"data: 1\n\n")
        await client.end()
        await asyncio.sleep(0.1)
        finished.append(True)

    connection = Connection(b"{}")
    await run(connection, answer)
    assert finished == [True]


async def test_an_error_before_the_first_byte_is_an_answer():
    async def answer(client):
        await client.read_body()
        raise ApiError(402, "insufficient_credits", "No.", headers=[("x-fallback-depth", "2")])

    connection = Connection(b"{}")
    await run(connection, answer)
    assert connection.status == 402
    assert connection.headers[b"x-fallback-depth"] == b"2"
    assert connection.headers[b"x-credits-used"] == b"0"
    assert json.loads(connection.body)["error"]["type"] == "quota_exceeded"


async def test_an_error_inside_a_stream_is_its_last_frame():
    async def answer(client):
        await client.read_body()
        await client.open_stream([])
        await client.send(b"data: 1\n\n")
        raise ApiError(502, "upstream_error", "Broken.")

    connection = Connection(b"{}")
    await run(connection, answer)
    assert connection.status == 200
    assert connection.body.startswith(b'data: 1\n\ndata: {"error":')
    assert b"[DONE]" not in connection.body
    assert connection.is_ended


async def test_our_bug_is_a_constant_500():
    async def answer(client):
        await client.read_body()
        raise ValueError("secret detail")

    connection = Connection(b"{}")
    await run(connection, answer)
    assert connection.status == 500
    assert b"secret" not in connection.body
    assert json.loads(connection.body)["error"]["code"] == "internal_error"


async def test_a_header_that_could_split_the_answer_is_never_written():
    async def answer(client):
        await client.read_body()
        await client.respond(200, [("x-model-used", "a\r\nset-cookie: b")], b"{}")

    connection = Connection(b"{}")
    await run(connection, answer)
    assert connection.status == 500
    assert b"set-cookie" not in str(connection.sent).encode()


@pytest.mark.parametrize("is_stream", [False, True], ids=["before-the-first-byte", "in-a-stream"])
async def test_a_cancellation_by_the_server_is_told(is_stream):
    async def answer(client):
        await client.read_body()
        if is_stream:
            await client.open_stream([])
            await client.send(b"data: 1\n\n")
        await asyncio.sleep(4)

    connection = Connection(b"{}")
    task = asyncio.create_task(run(connection, answer))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait_for(task, 1)
    assert task.exception() is None
    assert connection.is_ended
    assert connection.status == (200 if is_stream else 503)
    assert json.loads(connection.body.removeprefix(b"data: 1\n\ndata: "))["error"]["code"] == "server_draining"
