"""The sandbox's answer in OpenAI's shapes: one object, or the events of a stream (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from chat.sandbox.answers import Answer, Call

CREATED = 1_767_225_600
FINGERPRINT = "fp_sandbox"

# A word with the space after it; long words in parts.
_PIECE = re.compile(r"\S{1,16}\s{0,16}|\s{1,16}")
_ARGUMENT_PIECE_LENGTH = 12


class Frame(msgspec.Struct, frozen=True):
    """What all parts of one reply share. `digest` is of the request, so that equal requests get equal ids.

    `top_logprobs` is None when no log probabilities were asked for.
    """

    digest: str
    model: str
    choice_count: int
    includes_usage: bool = False
    top_logprobs: int | None = None


def whole(frame: Frame, answer: Answer) -> bytes:
    """The body of a reply that is not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.finish_reason == "function_call":
        message["function_call"] = _function(answer.calls[0])
    elif answer.calls:
        message["tool_calls"] = [_tool_call(frame, index, call) for index, call in enumerate(answer.calls)]
    choice = {
        "message": message,
        "logprobs": _logprobs(frame, _PIECE.findall(answer.text or "")),
        "finish_reason": answer.finish_reason,
    }
    choices = [{"index": index, **choice} for index in range(frame.choice_count)]
    return _encoded(frame, "chat.completion", choices, {"usage": _usage(frame, answer)})


def events(frame: Frame, answer: Answer) -> Iterator[bytes]:
    """The `data` of each event of a stream, the last one `[DONE]`."""
    extra: dict[str, Any] = {"usage": None} if frame.includes_usage else {}
    for index in range(frame.choice_count):
        for delta, logprobs in _deltas(frame, answer):
            choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
            yield _encoded(frame, "chat.completion.chunk", [choice], extra)
        end = {"index": index, "delta": {}, "logprobs": None, "finish_reason": answer.finish_reason}
        yield _encoded(frame, "chat.completion.chunk", [end], extra)
    if frame.includes_usage:
        yield _encoded(frame, "chat.completion.chunk", [], {"usage": _usage(frame, answer)})
    yield b"[DONE]"


def error(status: int, message: str, *, param: str | None = None, code: str | None = None) -> bytes:
    """An error body as OpenAI sends it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def _encoded(frame: Frame, kind: str, choices: list[dict[str, Any]], extra: dict[str, Any]) -> bytes:
    body = {
        "id": f"chatcmpl-{frame.digest[:24]}",
        "object": kind,
        "created": CREATED,
        "model": frame.model,
        "choices": choices,
        "system_fingerprint": FINGERPRINT,
        **extra,
    }
    return msgspec.json.encode(body)


def _deltas(frame: Frame, answer: Answer) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """The deltas of one choice, each with its log probabilities."""
    content = None if answer.calls else ""
    yield {"role": "assistant", "content": content, "refusal": None}, None
    for piece in _PIECE.findall(answer.text or ""):
        yield {"content": piece}, _logprobs(frame, [piece])
    for index, call in enumerate(answer.calls):
        pieces = _argument_pieces(call.arguments)
        if answer.finish_reason == "function_call":
            yield {"function_call": {"name": call.name, "arguments": ""}}, None
            for piece in pieces:
                yield {"function_call": {"arguments": piece}}, None
            continue
        text = "input" if call.kind == "custom" else "arguments"
        first = {**_tool_call(frame, index, call), call.kind: {"name": call.name, text: ""}}
        yield {"tool_calls": [{"index": index, **first}]}, None
        for piece in pieces:
            yield {"tool_calls": [{"index": index, call.kind: {text: piece}}]}, None


def _argument_pieces(arguments: str) -> list[str]:
    starts = range(0, len(arguments), _ARGUMENT_PIECE_LENGTH)
    return [arguments[start : start + _ARGUMENT_PIECE_LENGTH] for start in starts]


def _tool_call(frame: Frame, index: int, call: Call) -> dict[str, Any]:
    identity = {"id": f"call_{frame.digest[:20]}{index}", "type": call.kind}
    if call.kind == "custom":
        return {**identity, "custom": {"name": call.name, "input": call.arguments}}
    return {**identity, "function": _function(call)}


def _function(call: Call) -> dict[str, Any]:
    return {"name": call.name, "arguments": call.arguments}


def _usage(frame: Frame, answer: Answer) -> dict[str, Any]:
    completion_tokens = answer.completion_tokens * frame.choice_count
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": answer.prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _logprobs(frame: Frame, pieces: Iterable[str]) -> dict[str, Any] | None:
    if frame.top_logprobs is None:
        return None
    return {"content": [_token(piece, frame.top_logprobs) for piece in pieces], "refusal": None}


def _token(piece: str, alternatives: int) -> dict[str, Any]:
    """A log probability made up from the bytes of the token, and alternatives that are less likely."""
    logprob = -(sum(piece.encode()) % 97 + 1) / 1000
    likely = [{"token": piece, "logprob": logprob, "bytes": list(piece.encode())}]
    for rank in range(1, alternatives):
        token = f"{piece}{rank}"
        likely.append({"token": token, "logprob": logprob - rank, "bytes": list(token.encode())})
    return {**likely[0], "top_logprobs": likely[:alternatives]}
