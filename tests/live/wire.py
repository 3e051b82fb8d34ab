"""A client below every SDK: one HTTP/1.1 exchange on a socket, read as far as a test likes, and left when it likes."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from typing import Any, Self

import msgspec

TIMEOUT_S = 20.0


class WireClient:
    """POSTs `body` to the chat endpoint when entered. The answer is read unchunked, event by event."""

    def __init__(self, port: int, key: str, body: dict[str, Any], **headers: str) -> None:
        """`headers` by their names with underscores, such as `x_request_id`."""
        self._content = json.dumps(body).encode()
        self._head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(self._content)}\r\n"
            + "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
            + "\r\n"
        ).encode()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._file = self._socket.makefile("rb")
        self._unread = b""

    @property
    def local_port(self) -> int:
        return int(self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        try:
            self._socket.sendall(self._head + self._content)
        except OSError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        with self._socket, contextlib.suppress(OSError):
            self._file.close()

    def read_head(self) -> tuple[int, dict[str, str]]:
        """Status and headers. Raises ConnectionError if the connection ends before them."""
        first = self._file.readline()
        if not first:
            raise ConnectionResetError("the connection ended before an answer")
        status = int(first.split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers

    def read_event(self) -> bytes:
        """The next SSE event or comment without its blank line; empty at the end of the answer."""
        while b"\n\n" not in self._unread:
            size = int(self._file.readline() or b"0", 16)
            if not size:
                return b""
            self._unread += self._file.read(size)
            self._file.read(2)
        event, _, self._unread = self._unread.partition(b"\n\n")
        return event

    def read_all(self) -> bytes:
        """The body as far as it comes, unchunked where it is chunked."""
        _, headers = self.read_head()
        if headers.get("transfer-encoding") != "chunked":
            return self._file.read(int(headers.get("content-length", 0)))
        body = b""
        while size := int(self._file.readline() or b"0", 16):
            body += self._file.read(size)
            self._file.read(2)
        return body

    def read_contents(self, count: int) -> list[str]:
        """Events until so many pieces of content have come."""
        contents: list[str] = []
        while len(contents) < count:
            event = self.read_event()
            assert event, f"the stream ended after {contents}"
            chunk = msgspec.json.decode(event.removeprefix(b"data: "))
            contents += [choice["delta"]["content"] for choice in chunk["choices"] if choice["delta"].get("content")]
        return contents

    def read_rest(self) -> list[bytes]:
        """The events until the answer ends, well or not."""
        events = []
        with contextlib.suppress(OSError):
            while event := self.read_event():
                events.append(event)
        return events

    def leave(self, *, by_reset: bool) -> float:
        """Close the connection, and say when that was on the monotonic clock."""
        if by_reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        left_s = time.monotonic()
        self._file.close()
        self._socket.close()
        return left_s
