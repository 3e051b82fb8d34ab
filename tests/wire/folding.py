"""A client's stream put together again, as the official SDKs do it."""

from __future__ import annotations

import json
from typing import Any

from chat.sse import SseDecoder


def events_of(frames: bytes) -> list[bytes]:
    decoder = SseDecoder()
    return [event.data for event in [*decoder.feed(frames), *decoder.flush()]]


def folded(frames: bytes) -> dict[str, Any]:
    """The whole reply that a stream amounts to."""
    *chunks, done = events_of(frames)
    assert done == b"[DONE]"
    parsed = [json.loads(chunk) for chunk in chunks]
    assert parsed[-1]["choices"] == []
    choices: dict[int, dict[str, Any]] = {}
    for chunk in parsed:
        assert chunk["object"] == "chat.completion.chunk"
        for choice in chunk["choices"]:
            _add(choices.setdefault(choice["index"], {"message": {}, "finish_reason": None, "logprobs": None}), choice)
    head = {name: parsed[0][name] for name in ("id", "created", "model")}
    tail = {name: parsed[-1][name] for name in ("usage", "credits_used")}
    return head | tail | {"choices": [normal(choice | {"index": index}) for index, choice in sorted(choices.items())]}


def _add(choice: dict[str, Any], piece: dict[str, Any]) -> None:
    message = choice["message"]
    for name, value in piece["delta"].items():
        if name == "tool_calls":
            for call in value:
                _add_call(message.setdefault("tool_calls", {}), call)
        elif name == "role":
            assert name not in message
            message[name] = value
        elif name == "function_call":
            begun = message.setdefault(name, {})
            begun |= {part: begun.get(part, "") + text for part, text in value.items()}
        elif isinstance(value, list):
            message[name] = message.get(name, []) + value
        else:
            message[name] = (message.get(name) or "") + value if value is not None else message.get(name)
    for name in ("finish_reason", "logprobs"):
        if piece.get(name) is not None:
            choice[name] = piece[name]


def _add_call(calls: dict[int, dict[str, Any]], piece: dict[str, Any]) -> None:
    """The first piece of a call names it; later ones bring arguments only."""
    index = piece["index"]
    kind = "custom" if "custom" in piece else "function"
    text = "input" if kind == "custom" else "arguments"
    if index not in calls:
        assert index == len(calls)
        calls[index] = {"id": piece["id"], "type": piece["type"], kind: {"name": piece[kind]["name"], text: ""}}
    else:
        assert not {"id", "type"} & set(piece)
        assert "name" not in piece[kind]
    calls[index][kind][text] += piece[kind].get(text, "")


def whole(body: bytes) -> dict[str, Any]:
    """A whole reply, reduced to what a stream can tell."""
    reply = json.loads(body)
    assert reply["object"] == "chat.completion"
    told = {name: reply[name] for name in ("id", "created", "model", "usage", "credits_used")}
    return told | {"choices": [normal(choice) for choice in reply["choices"]]}


def normal(choice: dict[str, Any]) -> dict[str, Any]:
    """Absent, null and empty texts are one thing here, and JSON is what it means, not how it is spaced."""
    message = {name: value for name, value in choice["message"].items() if value}
    if "content" in message:
        message["content"] = _meaning(message["content"])
    calls = message.pop("tool_calls", [])
    if calls:
        message["tool_calls"] = [_meant(call) for call in (calls.values() if isinstance(calls, dict) else calls)]
    return {"index": choice["index"], "finish_reason": choice["finish_reason"], "message": message}


def _meant(call: dict[str, Any]) -> dict[str, Any]:
    if "function" not in call:
        return call
    function = call["function"]
    return call | {"function": function | {"arguments": _meaning(function["arguments"])}}


def _meaning(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
