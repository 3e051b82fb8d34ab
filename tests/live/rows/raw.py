"""HTTP/1.1 as bytes, for requests that no client library would send."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any, Self

import httpx

TIMEOUT_S = 15.0
CHAT = "/v1/chat/completions"

Line = tuple[str, str]
Post = Callable[..., httpx.Response]


def chat(**fields: Any) -> bytes:
    """The body of a good request, but for `fields`."""
    return json.dumps({"model": "main", "messages": [{"role": "user", "content": "Hello"}], **fields}).encode()


def head(*lines: Line, method: str = "POST", target: str = CHAT, host: str | None = "127.0.0.1") -> bytes:
    """A request line and headers as they are given, in Latin-1."""
    fields = lines if host is None else (("host", host), *lines)
    return "\r\n".join([f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in fields], "", ""]).encode(
        "latin-1"
    )


def request(key: str | None, *lines: Line, body: bytes | None = None, **line: Any) -> bytes:
    """A POST to the chat endpoint that is good but for what is given. A header in `lines` replaces the usual one."""
    content = chat() if body is None else body
    named = {name for name, _ in lines}
    usual = [("content-type", "application/json"), ("content-length", str(len(content)))]
    if key is not None:
        usual.append(("authorization", f"Bearer {key}"))
    return head(*[field for field in usual if field[0] not in named], *lines, **line) + content


def chunked(key: str | None, body: bytes) -> bytes:
    """The same with a chunked body, whose framing is as given; `chunk` makes one that is right."""
    lines = [("content-type", "application/json"), ("transfer-encoding", "chunked")]
    if key is not None:
        lines.append(("authorization", f"Bearer {key}"))
    return head(*lines) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n" % len(data) + data + b"\r\n"


class RawConnection:
    """One connection to the gateway."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
            self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self, *, has_body: bool = True) -> httpx.Response:
        """The next answer, whole. `has_body` is False for the answer to a HEAD."""
        status = int(self._file.readline().split()[1])
        headers: list[Line] = []
        while line := self._file.readline().rstrip(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(": ")
            headers.append((name, value))
        body = self._read_body(dict(headers)) if has_body else b""
        return httpx.Response(status, headers=headers, content=body)

    def ask(self, data: bytes, *, has_body: bool = True) -> httpx.Response:
        self.send(data)
        return self.read(has_body=has_body)

    def is_closed(self) -> bool:
        """Whether the server now closes the connection, without another byte."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

    def _read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self._file.read(int(headers.get("content-length", "0")))
        body = b""
        while size := int(self._file.readline(), 16):
            body += self._file.read(size)
            self._file.readline()
        self._file.readline()
        return body


def exchange(port: int, data: bytes) -> httpx.Response:
    """The answer to `data` on a connection of its own."""
    with RawConnection(port) as connection:
        return connection.ask(data)
