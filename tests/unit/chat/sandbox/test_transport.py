from __future__ import annotations

import time
from typing import Any

import httpx
import msgspec
import pytest

from tests.unit.chat.sandbox.asking import PIXEL, URL, ask, content, send, stream, user


async def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    error: dict[str, Any] = msgspec.json.decode(await response.aread())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("status", [400, 401, 404, 408, 429, 500, 503, 529])
async def test_statuses(*, status: int, is_stream: bool) -> None:
    response = await send({"model": "echo", "messages": [user(f"[[status {status}]]")], "stream": is_stream})
    error = await error_of(response, status)
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert ("retry-after" in response.headers) == (status in {429, 503})


async def test_the_flaky_model_fails_unless_told_otherwise() -> None:
    assert (await send({"model": "flaky", "messages": [user("Hello")]})).status_code == 503
    assert content(await ask("Hello [[status 200]]", model="flaky")) == "Hello"
    assert (await send({"model": "flaky", "messages": [user("[[status 429]]")]})).status_code == 429


async def test_the_text_model_has_no_eyes() -> None:
    assert content(await ask([{"type": "text", "text": "Read"}], model="text")) == "Read"
    messages = [user("One"), user([{"type": "image_url", "image_url": {"url": PIXEL}}])]
    error = await error_of(await send({"model": "text", "messages": messages}), 400)
    assert error["param"] == "messages[1].content"


@pytest.mark.parametrize(
    ("body", "path", "status", "param"),
    [
        ({"model": "echo"}, URL, 400, None),
        ({"model": "echo", "messages": []}, URL, 400, None),
        ({"model": "echo", "messages": [user("x")], "temperature": 7}, URL, 400, None),
        ({"model": "echo", "messages": [user("x")], "top_kay": 7}, URL, 400, None),
        ({"model": "gpt", "messages": [user("x")]}, URL, 404, "model"),
        ({"model": "echo", "messages": [user("x")]}, "sandbox:/models", 404, None),
        (
            {
                "model": "echo",
                "messages": [user("x")],
                "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}},
            },
            URL,
            400,
            "response_format",
        ),
        (
            {
                "model": "echo",
                "messages": [user("x")],
                "tool_choice": "required",
                "tools": [{"type": "function", "function": {"name": "a", "parameters": {"$ref": "#"}}}],
            },
            URL,
            400,
            "tools",
        ),
    ],
)
async def test_refusals(body: dict[str, object], path: str, status: int, param: str | None) -> None:
    error = await error_of(await send(body, path=path), status)
    assert error["param"] == param


async def test_delay() -> None:
    started_s = time.monotonic()
    await ask("[[delay 0.2]]")
    assert time.monotonic() - started_s >= 0.2


async def test_a_delay_past_the_read_limit_is_a_timeout() -> None:
    started_s = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        await send({"model": "echo", "messages": [user("[[delay 20]]")]}, read_s=0.1)
    assert 0.1 <= time.monotonic() - started_s < 5


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_stream_is_cut(count: int) -> None:
    response = await send({"model": "echo", "messages": [user(f"one two three [[cut {count}]]")], "stream": True})
    parts = response.aiter_raw()
    for _ in range(count):
        assert (await anext(parts)).startswith(b"data: ")
    with pytest.raises(httpx.RemoteProtocolError):
        await anext(parts)
    await response.aclose()


async def test_a_whole_reply_is_cut() -> None:
    response = await send({"model": "echo", "messages": [user("[[cut 5]]")]})
    assert response.status_code == 200
    with pytest.raises(httpx.RemoteProtocolError):
        await response.aread()


async def test_a_cut_behind_the_end_changes_nothing() -> None:
    assert len(await stream("Hi [[cut 99]]")) == 3


async def test_pace() -> None:
    response = await send({"model": "echo", "messages": [user("one two three")], "stream": True}, pace_s=0.05)
    started_s = time.monotonic()
    times_s = [time.monotonic() - started_s async for _ in response.aiter_raw()]
    assert times_s[0] < 0.05
    assert times_s[-1] >= 0.05 * (len(times_s) - 1)


async def test_closed_early() -> None:
    response = await send({"model": "echo", "messages": [user("one two three")], "stream": True})
    parts = aiter(response.stream)  # type: ignore[arg-type]
    assert (await anext(parts)).startswith(b"data: {")
    await response.aclose()
    assert [part async for part in parts] == []
