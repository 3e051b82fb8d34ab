"""The scripted answers in the shapes of the other dialects: Anthropic's Messages, Gemini's generateContent.

Usage is scripted in OpenAI's words for all of them; each dialect says it in its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tests.fakes.replies import Reply, words

_encode = msgspec.json.encode

_ANTHROPIC_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_GEMINI_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
_GEMINI_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def dialect_of(path: str) -> str:
    """Whose API a path belongs to."""
    if path.endswith("/messages"):
        return "anthropic"
    return "gemini" if "/models/" in path else "openai"


def error_of(dialect: str, status: int) -> bytes:
    if dialect == "anthropic":
        kind = _ANTHROPIC_ERRORS.get(status, "api_error")
        return _encode({"type": "error", "error": {"type": kind, "message": f"Scripted {status}."}, "request_id": "req_fake"})
    kind = _GEMINI_STATUSES.get(status, "INTERNAL")
    return _encode({"error": {"code": status, "message": f"Scripted {status}.", "status": kind}})


def error_event_of(dialect: str) -> tuple[str, bytes]:
    """An error in the middle of a stream."""
    return ("error", error_of(dialect, 529)) if dialect == "anthropic" else ("", error_of(dialect, 503))


class AnthropicReply(Reply):
    def whole(self) -> bytes:
        blocks = [block for block, _ in self._blocks()]
        return _encode({**self._message, "content": blocks, "stop_reason": self._stop, "usage": self._own_usage()})

    def events(self) -> Iterator[tuple[str, bytes]]:
        if self._script.events is not None:
            yield from [(msgspec.json.decode(data)["type"], data) for data in self._script.events]
            return
        start = {**self._message, "content": [], "stop_reason": None, "usage": self._own_usage() | {"output_tokens": 1}}
        yield self._event("message_start", message=start)
        for index, (block, deltas) in enumerate(self._blocks()):
            yield self._event("content_block_start", index=index, content_block=_emptied(block))
            for delta in deltas:
                yield self._event("content_block_delta", index=index, delta=delta)
            yield self._event("content_block_stop", index=index)
        delta = {"stop_reason": self._stop, "stop_sequence": None}
        yield self._event("message_delta", delta=delta, usage={"output_tokens": self._own_usage()["output_tokens"]})
        yield self._event("message_stop")

    def _event(self, kind: str, **fields: Any) -> tuple[str, bytes]:
        return kind, _encode({"type": kind, **fields})

    @property
    def _message(self) -> dict[str, Any]:
        return {"id": "msg_fake", "type": "message", "role": "assistant", "model": self._request["model"]}

    @property
    def _stop(self) -> str:
        if self._script.refusal is not None:
            return "refusal"
        return _ANTHROPIC_STOPS[self._finish_reason]

    def _blocks(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Each block whole, and the deltas it comes in."""
        script = self._script
        if script.reasoning is not None:
            signature = script.signature or "sig"
            deltas = [{"type": "thinking_delta", "thinking": word} for word in words(script.reasoning)]
            deltas.append({"type": "signature_delta", "signature": signature})
            yield {"type": "thinking", "thinking": script.reasoning, "signature": signature}, deltas
        text = script.refusal if script.refusal is not None else self._text
        if not script.tool_calls and text:
            yield {"type": "text", "text": text}, [{"type": "text_delta", "text": word} for word in words(text)]
        for call in script.tool_calls:
            pieces = [call.arguments[start : start + 7] for start in range(0, len(call.arguments), 7)]
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
            block = {"type": "tool_use", "id": call.id, "name": call.name, "input": msgspec.json.decode(call.arguments)}
            yield block, deltas

    def _own_usage(self) -> dict[str, Any]:
        usage: dict[str, Any] = self._usages[-1] if self._usages else {"prompt_tokens": 0, "completion_tokens": 0}
        details = usage.get("prompt_tokens_details", {})
        cached, written = details.get("cached_tokens", 0), details.get("cache_write_tokens", 0)
        return {
            "input_tokens": usage["prompt_tokens"] - cached - written,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": written,
            "output_tokens": usage["completion_tokens"],
        }


def _emptied(block: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {name: empty.get(name, value) for name, value in block.items()}


class GeminiReply(Reply):
    def whole(self) -> bytes:
        parts = [part for part, _ in self._parts()]
        return _encode(self._response(parts, self._reason))

    def events(self) -> Iterator[tuple[str, bytes]]:
        if self._script.events is not None:
            yield from [("", data) for data in self._script.events]
            return
        for _, pieces in self._parts():
            for piece in pieces:
                yield "", _encode(self._response([piece]))
        yield "", _encode(self._response([], self._reason))

    def _response(self, parts: list[dict[str, Any]], reason: str | None = None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"index": 0}
        if parts:
            candidate["content"] = {"role": "model", "parts": parts}
        if reason is not None:
            candidate["finishReason"] = reason
        response: dict[str, Any] = {"candidates": [candidate], "responseId": f"resp_{self._number}", "modelVersion": "fake"}
        if self._usages:
            response["usageMetadata"] = self._own_usage()
        return response

    @property
    def _reason(self) -> str:
        return "SAFETY" if self._script.refusal is not None else _GEMINI_REASONS[self._finish_reason]

    def _parts(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Each part whole, and the parts it is streamed in."""
        script = self._script
        if script.reasoning is not None:
            pieces = [{"text": word, "thought": True} for word in words(script.reasoning)]
            yield {"text": script.reasoning, "thought": True}, pieces
        for call in script.tool_calls:
            part: dict[str, Any] = {
                "functionCall": {"id": call.id, "name": call.name, "args": msgspec.json.decode(call.arguments)}
            }
            if script.signature is not None:
                part["thoughtSignature"] = script.signature
            yield part, [part]
        text = script.refusal if script.refusal is not None else self._text
        if not script.tool_calls and text:
            yield {"text": text}, [{"text": word} for word in words(text)]

    def _own_usage(self) -> dict[str, Any]:
        usage = self._usages[-1]
        thoughts = usage.get("completion_tokens_details", {}).get("reasoning_tokens", 0)
        return {
            "promptTokenCount": usage["prompt_tokens"],
            "cachedContentTokenCount": usage.get("prompt_tokens_details", {}).get("cached_tokens", 0),
            "candidatesTokenCount": usage["completion_tokens"] - thoughts,
            "thoughtsTokenCount": thoughts,
            "totalTokenCount": usage["prompt_tokens"] + usage["completion_tokens"],
        }


def reply_of(dialect: str) -> type[Reply]:
    return {"anthropic": AnthropicReply, "gemini": GeminiReply, "openai": Reply}[dialect]
