"""`limited` and `BodyLimit`: bodies that are too large or too slow."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infery_site.middleware import BodyLimit, RequestTimeout, RequestTooLarge, limited


def part(body: bytes, *, more: bool = False):
    return {"type": "http.request", "body": body, "more_body": more}


def arriving(*messages, then_hang: bool = False):
    """A `receive` that gives the messages at once, and after them either a disconnect or nothing, for ever."""
    queue = list(messages)

    async def receive():
        if queue:
            return queue.pop(0)
        if then_hang:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return receive


async def read(receive):
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            return body


async def test_a_body_at_the_limit_passes_whole():
    receive = limited(arriving(part(b"ab", more=True), part(b"cd")), 4, 1, 1)
    assert await read(receive) == b"abcd"


async def test_the_byte_that_crosses_the_limit_is_refused():
    receive = limited(arriving(part(b"ab", more=True), part(b"cde", more=True), part(b"never read")), 4, 1, 1)
    await receive()
    with pytest.raises(RequestTooLarge) as caught:
        await receive()
    assert caught.value.status == 413
    assert ("connection", "close") in caught.value.headers


async def test_silence_between_two_chunks_ends_in_a_timeout():
    receive = limited(arriving(part(b"a", more=True), then_hang=True), 10, 0.05, 60)
    await receive()
    with pytest.raises(RequestTimeout):
        await receive()


async def test_a_drip_of_chunks_ends_at_the_total_limit():
    async def drip():
        await asyncio.sleep(0.02)
        return part(b"a", more=True)

    receive = limited(drip, 10_000, 60, 0.1)
    started = asyncio.get_running_loop().time()
    with pytest.raises(RequestTimeout):
        await read(receive)
    assert 0.05 < asyncio.get_running_loop().time() - started < 5


async def test_after_the_body_a_wait_has_no_limit():
    receive = limited(arriving(part(b"a"), then_hang=True), 10, 0.02, 0.02)
    await receive()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(receive(), 0.15)


async def test_a_body_that_is_there_already_arms_no_timer():
    loop = asyncio.get_running_loop()
    before = len(loop._scheduled)
    await read(limited(arriving(part(b"a", more=True), part(b"b")), 10, 30, 30))
    assert len(loop._scheduled) == before


async def test_a_wait_can_be_cancelled():
    receive = limited(arriving(then_hang=True), 10, 30, 30)
    waiting = asyncio.create_task(receive())
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_message_that_takes_several_waits_arrives():
    async def slow():
        for _ in range(3):
            await asyncio.sleep(0.005)
        return part(b"late")

    assert await read(limited(slow, 10, 1, 1)) == b"late"


@given(sizes=st.lists(st.integers(min_value=0, max_value=40), max_size=8), limit=st.integers(min_value=0, max_value=200))
def test_whatever_the_split_the_sum_decides(sizes, limit):
    messages = [part(b"x" * size, more=True) for size in sizes] + [part(b"")]

    async def outcome():
        try:
            return len(await read(limited(arriving(*messages), limit, 1, 1)))
        except RequestTooLarge:
            return None

    assert asyncio.run(outcome()) == (sum(sizes) if sum(sizes) <= limit else None)


class Exchange:
    """One request through a BodyLimit of ten bytes, in front of an application that behaves like Django."""

    def __init__(self):
        self.sent = []
        self.seen = None

    async def application(self, scope, receive, send):
        message = await receive()
        while message["type"] == "http.request" and message["more_body"]:
            message = await receive()
        self.seen = message
        if message["type"] == "http.disconnect":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})

    async def run(self, receive, headers=()):
        async def send(message):
            self.sent.append(message)

        limit = BodyLimit(self.application, limit_bytes=10, chunk_timeout_s=0.05, total_timeout_s=1)
        await limit({"type": "http", "headers": list(headers)}, receive, send)
        return self.sent[0]["status"] if self.sent else None

    @property
    def code(self):
        return json.loads(b"".join(message["body"] for message in self.sent[1:]))["error"]["code"]


async def test_a_fitting_body_reaches_the_application():
    exchange = Exchange()
    assert await exchange.run(arriving(part(b"x" * 10))) == 200


async def test_a_declared_length_over_the_limit_is_refused_unread():
    exchange = Exchange()
    headers = [(b"content-length", b"11"), (b"x-request-id", b"mine")]
    assert await exchange.run(arriving(part(b"x" * 11)), headers) == 413
    assert exchange.seen is None
    assert exchange.code == "request_too_large"
    assert (b"x-request-id", b"mine") in exchange.sent[0]["headers"]
    assert (b"connection", b"close") in exchange.sent[0]["headers"]


async def test_a_chunked_body_over_the_limit_is_refused_on_the_way():
    exchange = Exchange()
    assert await exchange.run(arriving(part(b"x" * 6, more=True), part(b"x" * 6, more=True), part(b"x"))) == 413
    assert exchange.code == "request_too_large"


@pytest.mark.slow
async def test_a_stalled_body_is_refused():
    exchange = Exchange()
    assert await exchange.run(arriving(part(b"x", more=True), then_hang=True)) == 408
    assert exchange.code == "request_timeout"


async def test_a_client_that_leaves_gets_no_answer():
    exchange = Exchange()
    assert await exchange.run(arriving(part(b"x", more=True))) is None
    assert exchange.sent == []
