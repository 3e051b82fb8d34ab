"""The caller's side of an exchange, without a connection."""

from __future__ import annotations


class Recorder:
    """A client that writes down what it is sent."""

    has_left = False
    is_started = False

    def __init__(self, *, is_wired: bool = False) -> None:
        self.sent: list = []
        self.is_wired = is_wired

    async def read_body(self) -> bytes:
        return b""

    def shield(self, *, is_kept=True) -> None:
        self.sent.append("shield")

    async def respond(self, status, headers, body) -> None:
        self.is_started = True
        self.sent.append((status, list(headers), body))

    async def open_stream(self, headers) -> None:
        self.is_started = True
        self.sent.append(list(headers))

    async def send(self, frames) -> None:
        self.sent.append(frames)

    @property
    def is_clear(self) -> bool:
        return True

    @property
    def way(self) -> Recorder | None:
        return self if self.is_wired else None

    def push(self, frames) -> None:
        assert self.is_wired
        self.sent.append(frames)

    async def end(self, frames: bytes = b"") -> None:
        self.sent.append(frames or "end")
