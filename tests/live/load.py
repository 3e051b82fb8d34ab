"""Load on a live gateway from a thread of its own: so many connections, each of which asks again when it was answered."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from types import TracebackType
from typing import Any, Self

import httptools
import msgspec


class Asked(msgspec.Struct, frozen=True):
    """One request; times are of the system's clock, which the databases of a test share. Status 0: no answer."""

    sent_s: float
    status: int


class Load:
    """Asks for `body` with `key` while the block runs, at most `most_per_s` times a second in all.

    `asked` is what became of each request that was answered, in the order of the answers.
    """

    def __init__(self, port: int, key: str, body: dict[str, Any], *, connections: int, most_per_s: int) -> None:
        content = json.dumps(body).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        self.port = port
        self.request = head.encode() + content
        self.asked: list[Asked] = []
        self._connections = connections
        self._pause_s = connections / most_per_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_over.set()
        self._thread.join()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._connections):
                tasks.create_task(self._ask_for_ever())

    async def _ask_for_ever(self) -> None:
        """A refusal may close the connection; then there is a new one."""
        while not self._is_over.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            answer = _Answer()
            while not self._is_over.is_set() and answer.is_kept:
                sent_s, due_s = time.time(), time.monotonic() + self._pause_s
                answer.begin()
                writer.write(self.request)
                while not answer.is_whole and (data := await reader.read(65_536)):
                    answer.parser.feed_data(data)
                self.asked.append(Asked(sent_s, answer.status))
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            writer.close()


class _Answer:
    """Reads one answer after the other from a connection."""

    def __init__(self) -> None:
        self.is_kept = True
        self.begin()

    def begin(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.is_whole = False

    def on_message_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.is_kept = self.parser.should_keep_alive()
        self.is_whole = True
