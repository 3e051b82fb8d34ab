from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from chat.sandbox import SandboxTransport
from chat.upstream import Response, ResponseTooLargeError, Timeouts, Upstream, build_request, read_limited


class Parts(httpx.AsyncByteStream):
    """A body in parts that knows whether it was closed, and how much of it was read."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts
        self.read_count = 0
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            self.read_count += 1
            yield part

    async def aclose(self) -> None:
        self.is_closed = True


async def test_read_within_the_limit() -> None:
    parts = Parts(b"12", b"", b"345")
    assert await read_limited(Response(200, [], parts), limit_bytes=5) == b"12345"
    assert parts.is_closed


async def test_read_past_the_limit() -> None:
    parts = Parts(b"12", b"3456", b"7")
    with pytest.raises(ResponseTooLargeError, match="5 bytes") as caught:
        await read_limited(Response(200, [], parts), limit_bytes=5)
    assert caught.value.limit_bytes == 5
    assert parts.is_closed
    assert parts.read_count == 2


def test_a_request_shows_no_secrets() -> None:
    headers = (("authorization", "Bearer sk-secret"),)
    request = build_request("https://api.example.com/v1", headers=headers, body=b"secret", timeouts=Timeouts(5, 60))
    assert repr(request) == "Request(url='https://api.example.com/v1', body_bytes=6)"


async def test_sandbox_addresses_are_answered_in_this_process() -> None:
    upstream = Upstream(sandbox=SandboxTransport(pace_s=0))
    body = b'{"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}'
    request = build_request("sandbox:/chat/completions", headers=(), body=body, timeouts=Timeouts(5, 60))
    response = await upstream.send(request)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert b'"content":"Hello"' in await read_limited(response, limit_bytes=10_000)
