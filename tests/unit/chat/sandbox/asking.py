"""What the tests of the sandbox share: asking it in both modes, and tools to ask with."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import msgspec

from chat.sandbox import SandboxTransport
from chat.sse import DONE_DATA, SseDecoder

URL = "sandbox:/chat/completions"
PIXEL = "data:image/png;base64," + "A" * 92
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "get_time"}}
GREP = {"type": "custom", "custom": {"name": "grep"}}


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def conversation(*texts: str) -> list[dict[str, object]]:
    return [{"role": role, "content": text} for role, text in zip(itertools.cycle(["user", "assistant"]), texts, strict=False)]


async def send(body: dict[str, object], *, read_s: float | None = 5.0, path: str = URL, pace_s: float = 0) -> httpx.Response:
    request = httpx.Request(
        "POST", path, content=msgspec.json.encode(body), extensions={"timeout": {"connect": 5.0, "read": read_s}}
    )
    return await SandboxTransport(pace_s=pace_s).handle_async_request(request)


async def ask(said: object = "Hello there", /, **fields: object) -> dict[str, Any]:
    """The whole reply to one message, or to `messages`."""
    response = await send({"model": "echo", "messages": [user(said)], **fields})
    body = await response.aread()
    assert response.status_code == 200, body
    return msgspec.json.decode(body, type=dict[str, Any])


async def stream(said: object = "Hello there", /, **fields: object) -> list[dict[str, Any]]:
    """The chunks of a stream, which ends well."""
    response = await send({"model": "echo", "messages": [user(said)], "stream": True, **fields})
    assert response.headers["content-type"].startswith("text/event-stream")
    decoder = SseDecoder()
    events = decoder.feed(await response.aread())
    assert decoder.flush() == []
    assert events.pop().data == DONE_DATA
    return [msgspec.json.decode(event.data) for event in events]


def fold(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole reply that a stream amounts to."""
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        whole |= {name: value for name, value in chunk.items() if name != "choices"}
        for piece in chunk["choices"]:
            choice = choices.setdefault(piece["index"], {"index": piece["index"], "message": {}, "logprobs": None})
            merge(choice["message"], piece["delta"])
            choice["finish_reason"] = piece["finish_reason"]
            if piece["logprobs"]:
                choice["logprobs"] = choice["logprobs"] or {"content": [], "refusal": None}
                choice["logprobs"]["content"] += piece["logprobs"]["content"]
    return {**whole, "object": "chat.completion", "choices": list(choices.values())}


def merge(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault(name, [])
            for piece in value:
                if piece["index"] == len(calls):
                    calls.append({})
                merge(calls[piece["index"]], {key: part for key, part in piece.items() if key != "index"})
        elif isinstance(value, dict):
            merge(message.setdefault(name, {}), value)
        elif isinstance(value, str) and isinstance(message.get(name), str) and name not in {"id", "type", "role"}:
            message[name] += value
        else:
            message[name] = value


def content(reply: dict[str, Any]) -> str:
    text = reply["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text
