"""Many slow streams at once on one worker: all of them end well and are paid, and nothing is left open behind them.

How late the loop is meanwhile and what memory they take is measured by `python -m benchmarks crowd`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable

import psutil
import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.catalog import cost
from tests.live.gateway import Server

MODEL = "main"
WORDS = 10
USAGE = {"prompt_tokens": 7, "completion_tokens": 20}
TIMEOUT_S = 240
SOCKETS_BESIDES = 32


async def streamed(server: Server, key: str, label: str) -> bytes:
    """The whole answer to one stream, head and all."""
    body = b'{"model":"%b","messages":[{"role":"user","content":"Go on."}],"stream":true}' % MODEL.encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\nx-request-id: {label}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    return answer


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "pause_s"),
    [
        pytest.param(100, 0.8, id="short"),
        pytest.param(1000, 3.0, id="long", marks=[pytest.mark.long, pytest.mark.timeout(300)]),
    ],
)
async def test_many_slow_streams_at_once(
    server: Server, provider: FakeProvider, keys: dict[str, str], books: Books, count: int, pause_s: float
):
    provider.script(MODEL, Script(text="word " * WORDS, usage=USAGE, delay_between_s=pause_s))
    run = uuid.uuid4().hex
    process = psutil.Process(server.pid)
    charged_before, files_before = books.charged_microcredits(), process.num_fds()
    async with asyncio.timeout(TIMEOUT_S):
        answers = await asyncio.gather(*[streamed(server, keys["acme"], f"{run}-{n}") for n in range(count)])
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 200"}
    assert {answer.count(b'"word ') for answer in answers} == {WORDS}
    assert all(b"data: [DONE]\n\n" in answer for answer in answers)
    requests = provider.requests()
    assert len(requests) == count
    first_end_s = min(seen.answered_s or 0 for seen in requests)
    assert max(seen.arrived_s for seen in requests) < first_end_s, "all of them ran at the same time"
    wait_for(lambda: books.open_holds() == 0)
    assert books.charged_microcredits() - charged_before == count * cost(MODEL, 7, 20)
    # Connections to the provider are kept for the next requests, those to the clients are not.
    wait_for(lambda: process.num_fds() <= files_before + count + SOCKETS_BESIDES)
