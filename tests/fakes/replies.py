"""Bodies of the scripted provider, in OpenAI's shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from tests.fakes.script import Script

_ERROR_CODES = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}


def error_body(status: int) -> bytes:
    kind, code = _ERROR_CODES.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    return msgspec.json.encode({"error": {"message": f"Scripted {status}.", "type": kind, "param": None, "code": code}})


class Reply:
    """One scripted answer to one request."""

    def __init__(self, script: Script, request: dict[str, Any], number: int) -> None:
        self._script = script
        self._request = request
        self._number = number
        self._head = {
            "id": f"chatcmpl-fake{number}",
            "created": 1_767_225_600,
            "model": str(request.get("model", "")),
            "system_fingerprint": "fp_fake",
        }
        self._text = _last_user_text(request) if script.echoes else script.text * script.times
        self._usages = self._list_usages()

    def whole(self) -> bytes:
        script = self._script
        message: dict[str, Any] = {"role": "assistant", "content": None if script.tool_calls else self._text, "refusal": None}
        if script.refusal is not None:
            message |= {"content": None, "refusal": script.refusal}
        if script.reasoning is not None:
            message["reasoning_content"] = script.reasoning
        if script.tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in script.tool_calls
            ]
        choice = {"message": message, "logprobs": self._logprobs(words(self._text)), "finish_reason": self._finish_reason}
        body: dict[str, Any] = {
            **self._head,
            "object": "chat.completion",
            "choices": [{"index": index, **choice} for index in range(self._choice_count)],
        }
        if self._usages:
            body["usage"] = self._usages[-1]
        return msgspec.json.encode(body)

    def events(self) -> Iterator[tuple[str, bytes]]:
        """The events of a stream: the name, empty in this dialect, and the `data` of each."""
        yield from [("", data) for data in self._data()]

    def _data(self) -> Iterator[bytes]:
        if self._script.events is not None:
            yield from self._script.events
            return
        usages = iter(self._usages)
        place = self._script.usage_on
        choices = [choice for index in range(self._choice_count) for choice in self._choices(index)]
        for number, choice in enumerate(choices, 1):
            extra: dict[str, Any] = {}
            if self._usages and (place == "every" or (place == "choice" and number == len(choices))):
                extra["usage"] = next(usages, self._usages[-1])
            yield self._chunk([choice], extra)
        if place == "own":
            for usage in usages:
                yield self._chunk([], {"usage": usage})
        if self._script.is_done_sent:
            yield b"[DONE]"

    def _choices(self, index: int) -> Iterator[dict[str, Any]]:
        script = self._script
        role: dict[str, Any] = {"role": "assistant", "content": None if script.tool_calls or script.refusal else ""}
        deltas: list[tuple[dict[str, Any], Any]] = [(role, None)]
        if script.reasoning is not None:
            deltas += [({"reasoning_content": word}, None) for word in words(script.reasoning)]
        if script.refusal is not None:
            deltas += [({"refusal": word}, None) for word in words(script.refusal)]
        elif script.tool_calls:
            deltas += [(delta, None) for delta in self._tool_deltas()]
        else:
            deltas += [({"content": word}, self._logprobs([word])) for word in words(self._text)]
        for delta, logprobs in deltas:
            yield {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
        yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": self._finish_reason}

    def _tool_deltas(self) -> Iterator[dict[str, Any]]:
        for index, call in enumerate(self._script.tool_calls):
            function = {"name": call.name, "arguments": ""}
            yield {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]}
            for start in range(0, len(call.arguments), 7):
                yield {"tool_calls": [{"index": index, "function": {"arguments": call.arguments[start : start + 7]}}]}

    def _chunk(self, choices: list[dict[str, Any]], extra: dict[str, Any]) -> bytes:
        return msgspec.json.encode({**self._head, "object": "chat.completion.chunk", "choices": choices, **extra})

    def _list_usages(self) -> list[Any]:
        """In OpenAI's words; an answer of another dialect says them in its own."""
        usage = self._script.usage
        if usage is None:
            return []
        if isinstance(usage, list):
            return usage
        if usage != "counted":
            return [usage]
        options = self._request.get("stream_options") or {}
        if self._request.get("stream") and not options.get("include_usage") and self._script.usage_on == "own":
            return []
        prompt_tokens = len(words(msgspec.json.encode(self._request.get("messages")).decode()))
        completion_tokens = max(len(words(self._text)), 1) * self._choice_count
        return [
            {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            }
        ]

    def _logprobs(self, words: list[str]) -> dict[str, Any] | None:
        if not self._request.get("logprobs"):
            return None
        count = self._request.get("top_logprobs") or 0
        tokens = [{"token": word, "logprob": -0.25, "bytes": list(word.encode())} for word in words]
        return {"content": [{**token, "top_logprobs": [token] * count} for token in tokens], "refusal": None}

    @property
    def _choice_count(self) -> int:
        return int(self._request.get("n") or 1)

    @property
    def _finish_reason(self) -> str:
        return self._script.finish_reason or ("tool_calls" if self._script.tool_calls else "stop")


def words(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


def _last_user_text(request: dict[str, Any]) -> str:
    for message in reversed(request.get("messages") or []):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            return "".join(part.get("text", "") for part in content or [])
    return ""
