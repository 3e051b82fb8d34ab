"""A provider that does what it is told: a real HTTP/1.1 server in its own process, on loopback only.

Answers `POST .../chat/completions`, and the same in the dialects of Anthropic and Gemini, by the script that stands for
its model after `@inline:` anywhere in the body, else by the script of the name after `@script:`, else of the request's
model, else with a good reply. A name with several scripts uses them up in order and stays at the last.
`/_control/` sets scripts and tells what was seen. Ends when its standard input closes, so it cannot outlive a test run.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec

from tests.fakes.dialects import dialect_of, error_event_of, error_of, reply_of
from tests.fakes.replies import error_body
from tests.fakes.script import INLINE, MARKER, Script, Seen, read_inline

_MARKED = re.compile(MARKER.encode() + rb"([A-Za-z0-9_.-]+)")
_INLINE = re.compile(INLINE.encode() + rb"([A-Za-z0-9_=-]+)")
_REASONS = {200: "OK", 301: "Moved Permanently", 400: "Bad Request", 429: "Too Many Requests", 500: "Internal Server Error"}


class Memory:
    """What this process was told and has seen."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[Script]] = {}
        self.seen: list[Seen] = []
        self.connection_count = 0

    def script_for(self, body: bytes, model: str) -> tuple[str, Script]:
        brought = _INLINE.search(body)
        if brought:
            return model, read_inline(brought[1]).get(model, Script())
        marked = _MARKED.search(body)
        name = marked[1].decode() if marked else model
        queue = self.scripts.get(name, [])
        if not queue:
            return name, Script()
        return name, queue.pop(0) if len(queue) > 1 else queue[0]


class Connection(asyncio.Protocol):
    """One connection: requests one after the other, each answered by a task that ends with the connection."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._task: asyncio.Task[None] | None = None
        self._own: list[Seen] = []
        memory.connection_count += 1
        self._number = memory.connection_count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._start_request()

    def connection_lost(self, exc: Exception | None) -> None:
        now = time.monotonic()
        for seen in self._own:
            seen.closed_s = now
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        path = self._url.decode("latin-1")
        body = bytes(self._body)
        seen = Seen(method, path, self._headers, body, self._number, time.monotonic())
        self._start_request()
        if path.startswith("/_control/"):
            self._transport.write(_head(200, {}, length=len(answer := self._control(path, body))) + answer)
            return
        self._memory.seen.append(seen)
        self._own.append(seen)
        self._task = asyncio.create_task(self._serve_or_leave(seen))

    def _start_request(self) -> None:
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()
        self._parser = httptools.HttpRequestParser(self)

    def _control(self, path: str, body: bytes) -> bytes:
        if path == "/_control/requests":
            return msgspec.json.encode(self._memory.seen)
        if path == "/_control/reset":
            self._memory.scripts.clear()
            self._memory.seen.clear()
        else:
            name = path.removeprefix("/_control/scripts/")
            self._memory.scripts[name] = msgspec.json.decode(body, type=list[Script])
        return b"{}"

    async def _serve_or_leave(self, seen: Seen) -> None:
        """A script that cannot be played ends the connection, and is told on standard error."""
        try:
            await self._serve(seen)
        except Exception:
            self._transport.abort()
            raise

    async def _serve(self, seen: Seen) -> None:
        request, dialect = _decoded(seen.body), dialect_of(urlsplit(seen.path).path)
        is_stream = request.get("stream") is True
        if dialect == "gemini":
            model, _, method = seen.path.rpartition("/")[2].partition(":")
            request["model"], is_stream = model, method.startswith("stream")
        seen.script, script = self._memory.script_for(seen.body, str(request.get("model", "")))
        await asyncio.sleep(script.delay_head_s)
        if script.hang == "head":
            await asyncio.Event().wait()
        if script.cut_head:
            await self._cut(script)
            return
        parts = _parts(script, dialect, request, len(self._memory.seen), is_stream=is_stream)
        framing = script.framing or ("chunked" if is_stream and script.status == 200 else "length")
        headers = {"content-type": _content_type(script, is_stream=is_stream), "x-request-id": "req_fake", **script.headers}
        if framing == "close":
            headers["connection"] = "close"
        length = sum(map(len, parts)) if framing == "length" else None
        self._transport.write(_head(script.status, headers, length=length, is_chunked=framing == "chunked"))
        if script.hang == "body":
            await asyncio.Event().wait()
        await asyncio.sleep(script.delay_first_s)
        if await self._send_parts(script, parts, seen, framing):
            seen.answered_s = time.monotonic()
            if script.closes or framing == "close":
                self._transport.close()
        else:
            await self._cut(script)

    async def _send_parts(self, script: Script, parts: list[bytes], seen: Seen, framing: str) -> bool:
        """Write the body. False if the script says that the connection breaks here."""
        size_bytes = 0
        for index, part in enumerate(parts):
            if index == script.hang_after:
                await asyncio.Event().wait()
            if index == script.cut_after:
                return False
            if index:
                await asyncio.sleep(script.delay_between_s)
            size_bytes += len(part)
            limit = script.cut_after_bytes
            excess = 0 if limit is None else max(size_bytes - limit, 0)
            await self._write(part, excess, script.write_bytes, is_chunked=framing == "chunked")
            if excess:
                return False
            seen.events_sent += 1
        if script.cut_after is not None and script.cut_after >= len(parts):
            return False
        if framing == "chunked":
            self._transport.write(b"0\r\n\r\n")
        return True

    async def _write(self, part: bytes, excess: int, size: int | None, *, is_chunked: bool) -> None:
        """Write `part` without its last `excess` bytes, at once or in pieces of `size`."""
        data = part[: len(part) - excess]
        if is_chunked and part:  # An empty chunk would be the last one.
            data = b"%x\r\n" % len(part) + data + (b"" if excess else b"\r\n")
        if size is None:
            self._transport.write(data)
            return
        for start in range(0, len(data), size):
            self._transport.write(data[start : start + size])
            await asyncio.sleep(0.001)

    async def _cut(self, script: Script) -> None:
        await asyncio.sleep(0.02)  # What was written reaches the peer before the end does.
        if script.cut_with == "rst":
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _content_type(script: Script, *, is_stream: bool) -> str:
    if script.content_type is not None:
        return script.content_type
    return "text/event-stream" if is_stream and script.status == 200 else "application/json"


def _parts(script: Script, dialect: str, request: dict[str, Any], number: int, *, is_stream: bool) -> list[bytes]:
    """The body, one item for each event."""
    if script.body is not None:
        return [script.body] * script.repeats
    if script.status != 200:
        return [error_body(script.status) if dialect == "openai" else error_of(dialect, script.status)]
    reply = reply_of(dialect)(script, request, number)
    if not is_stream:
        return [reply.whole()]
    events = list(reply.events())
    if script.error_after is not None:
        events = [*events[: script.error_after], _error_event(script, dialect)]
    end = script.line_end.encode()
    comment = b": ping" + end + end if script.has_comments else b""
    names = [b"event: " + name.encode() + end if name else b"" for name, _ in events]
    return [comment + name + b"data: " + data + end + end for name, (_, data) in zip(names, events, strict=True)]


def _error_event(script: Script, dialect: str) -> tuple[str, bytes]:
    if script.error is not None:
        return "", msgspec.json.encode(script.error)
    if dialect != "openai":
        return error_event_of(dialect)
    return "", msgspec.json.encode({"error": {"message": "Scripted.", "type": "server_error", "code": None}})


def _head(status: int, headers: dict[str, str], *, length: int | None = None, is_chunked: bool = False) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Scripted')}", *(f"{name}: {value}" for name, value in headers.items())]
    if length is not None:
        lines.append(f"content-length: {length}")
    if is_chunked:
        lines.append("transfer-encoding: chunked")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def main() -> None:
    """Serve on a free port, say which on standard output, and stop when standard input ends."""
    loop = asyncio.get_running_loop()
    memory = Memory()
    server = await loop.create_server(lambda: Connection(memory), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
