"""A provider that sends without end: it is left after a bounded number of bytes, and the gateway's memory does not grow with them."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import httpx
import psutil
import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.gateway import Server

PIECE_BYTES = 65_536
PIECES = 1_600  # 100 MB
MOST_GROWTH_BYTES = 16 * 1024 * 1024

FLOODS = [
    pytest.param(Script(body=b"x" * PIECE_BYTES, repeats=PIECES), "upstream_invalid_response", id="one-line"),
    pytest.param(
        Script(body=b"data: " + b"x" * PIECE_BYTES + b"\n", repeats=PIECES), "upstream_invalid_response", id="one-event"
    ),
    pytest.param(Script(body=b": " + b"x" * PIECE_BYTES + b"\n", repeats=PIECES), "upstream_response_too_large", id="comments"),
]


class Memory:
    """The most memory that a process has in use while the block runs."""

    def __init__(self, process_id: int) -> None:
        self._process = psutil.Process(process_id)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.before_bytes = self.most_bytes = self._process.memory_info().rss

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(0.002):
            self.most_bytes = max(self.most_bytes, self._process.memory_info().rss)


@pytest.mark.parametrize(("script", "code"), FLOODS)
def test_a_flood_is_left_and_takes_no_memory(
    server: Server, http: httpx.Client, provider: FakeProvider, books: Books, label: str, script: Script, code: str
):
    body = {"model": "main", "messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": 1000}
    assert http.post("/chat/completions", json=body).status_code == 200, "what a process keeps once it serves"
    provider.script("main", script)
    with Memory(server.pid) as memory:
        response = http.post("/chat/completions", json=body, headers={"x-request-id": label})
        provider.wait_for(lambda requests: requests[-1].closed_s is not None)
    assert (response.status_code, response.json()["error"]["code"]) == (502, code)
    assert memory.most_bytes - memory.before_bytes <= MOST_GROWTH_BYTES
    booked = books.of_request(label)
    assert (booked.charged_microcredits, booked.states) == (0, ["voided"])
