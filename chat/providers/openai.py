"""OpenAI Chat Completions, and every server that speaks it (vLLM, llama.cpp, Ollama and others).

Source: OpenAI's published types and API description, November 2026. Quirks of a target say where a server differs.
Decoding is lenient where servers are known to differ without harm (nulls for absent fields, usage on any chunk, no
`[DONE]`), strict where a guess would change what the client sees. Fields nobody asked for are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from billing.pricing import Usage
from chat.errors import (
    UpstreamAuthFailed,
    UpstreamContextLength,
    UpstreamError,
    UpstreamFailure,
    UpstreamInvalidResponse,
    UpstreamOverloaded,
    UpstreamRateLimited,
)
from chat.providers.base import Asked, StreamDecoder, UpstreamCall, failure_by_status, token_count
from chat.schema.reply import (
    Choice,
    ChoiceDelta,
    Chunk,
    CustomPiece,
    Delta,
    FinishReason,
    FunctionPiece,
    Message,
    Reply,
    ReportedUsage,
    ToolCallPiece,
)
from chat.schema.request import StreamOptions

_USAGE_ASKED = StreamOptions(include_usage=True)
_DONE = b"[DONE]"
_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "function_call",
}


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Custom(msgspec.Struct):
    name: str | None = None
    input: str | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None


class _Message(msgspec.Struct):
    """A message or a delta: both have the same fields on this wire."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    annotations: list[Any] | None = None
    audio: dict[str, Any] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    system_fingerprint: str | None = None
    error: Any = None


class _Error(msgspec.Struct):
    code: Any = None
    type: Any = None


class _ErrorBody(msgspec.Struct):
    error: _Error | str | None = None


_answer_decoder = msgspec.json.Decoder(_Answer)
_error_decoder = msgspec.json.Decoder(_ErrorBody)
_encoder = msgspec.json.Encoder()


class OpenAIAdapter:
    def build(self, asked: Asked) -> UpstreamCall:
        request, target, tenant = asked.request, asked.target, asked.tenant
        quirks = target.quirks
        limit = request.output_limit
        is_new_limit = "max_completion_tokens" in quirks
        asks_usage = request.is_stream and "no_stream_options" not in quirks
        body = msgspec.structs.replace(
            request,
            model=target.upstream_model,
            max_tokens=None if is_new_limit else limit,
            max_completion_tokens=limit if is_new_limit else None,
            stream_options=_USAGE_ASKED if asks_usage else None,
            metadata=None,
            user=None if request.user is None else tenant.tag(request.user),
            safety_identifier=None if request.safety_identifier is None else tenant.tag(request.safety_identifier),
            prompt_cache_key=tenant.tag(request.prompt_cache_key or ""),
        )
        headers = [
            ("content-type", "application/json"),
            ("accept", "text/event-stream" if request.is_stream else "application/json"),
        ]
        if target.provider.api_key:
            headers.append(("authorization", f"Bearer {target.provider.api_key}"))
        return UpstreamCall(f"{target.provider.base_url}/chat/completions", tuple(headers), _encoder.encode(body))

    def reply(self, _asked: Asked, body: bytes) -> Reply:
        answer = _decoded(body)
        if not answer.choices:
            raise UpstreamInvalidResponse(upstream_status=200)
        choices = []
        for choice in answer.choices:
            if choice.message is None:
                raise UpstreamInvalidResponse(upstream_status=200)
            reason = _finish_reason(choice.finish_reason) or "stop"
            choices.append(Choice(choice.index, _message(choice.message), reason, choice.logprobs))
        return Reply(tuple(choices), _reported(answer.usage), answer.system_fingerprint)

    def stream(self, _asked: Asked) -> StreamDecoder:
        return OpenAIStream()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        code = _error_code(body)
        if status == 400 and code == "context_length_exceeded":
            return UpstreamContextLength(upstream_status=status)
        if status == 429 and code == "insufficient_quota":
            return UpstreamAuthFailed(upstream_status=status)
        return failure_by_status(status, headers)


class OpenAIStream:
    """Decodes one stream. The stream is whole when every choice that began has its finish reason."""

    def __init__(self) -> None:
        self.is_done = False
        self._unfinished: set[int] = set()
        self._has_finished = False

    def decode(self, event: str, data: bytes) -> Chunk | None:
        if data == _DONE:
            self.is_done = True
            return None
        if not data or self.is_done:
            return None
        answer = _decoded(data)
        choices = tuple([self._choice(choice) for choice in answer.choices]) if answer.choices else ()
        return Chunk(choices, _reported(answer.usage), answer.system_fingerprint)

    def _choice(self, choice: _Choice) -> ChoiceDelta:
        reason = _finish_reason(choice.finish_reason)
        if reason is None:
            self._unfinished.add(choice.index)
        else:
            self._unfinished.discard(choice.index)
            self._has_finished = True
        delta = Delta() if choice.delta is None else _delta(choice.delta)
        return ChoiceDelta(choice.index, delta, reason, choice.logprobs)

    def flush(self) -> None:
        if self._unfinished:
            raise UpstreamError(upstream_status=200)
        if not self._has_finished:
            raise UpstreamInvalidResponse(upstream_status=200)


def _decoded(data: bytes) -> _Answer:
    try:
        answer = _answer_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamInvalidResponse(upstream_status=200) from error
    if answer.error:
        raise _failure_inside(data)
    return answer


def _failure_inside(data: bytes) -> UpstreamFailure:
    """An error that came with status 200: there is only its code to go by."""
    code = _error_code(data)
    if code in {"insufficient_quota", "invalid_api_key"}:
        return UpstreamAuthFailed(upstream_status=200)
    if code in {"rate_limit_exceeded", "429"}:
        return UpstreamRateLimited(upstream_status=200)
    if code in {"overloaded", "overloaded_error", "503"}:
        return UpstreamOverloaded(upstream_status=200)
    return UpstreamError(upstream_status=200)


def _error_code(body: bytes) -> str:
    """The `code` of an error body, else its `type`; empty where there is none."""
    try:
        error = _error_decoder.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if not isinstance(error, _Error):
        return ""
    return str(error.code or error.type or "")


def _finish_reason(text: str | None) -> FinishReason | None:
    if not text:
        return None
    if text == "error":
        raise UpstreamError(upstream_status=200)
    return _FINISH_REASONS.get(text, "stop")


def _delta(delta: _Message) -> Delta:
    """The delta in our shape; its role is left to the encoder, which says it once per choice."""
    calls = delta.tool_calls
    return Delta(
        content=delta.content or UNSET,
        reasoning_content=delta.reasoning_content or delta.reasoning or UNSET,
        refusal=delta.refusal or UNSET,
        tool_calls=[_piece(call, position) for position, call in enumerate(calls)] if calls else UNSET,
        function_call=_function(delta.function_call),
        annotations=delta.annotations or UNSET,
        audio=delta.audio or UNSET,
    )


def _message(message: _Message) -> Message:
    calls = [_call(call) for call in message.tool_calls] if message.tool_calls else UNSET
    return Message(
        role="assistant",
        content=message.content,
        refusal=message.refusal,
        reasoning_content=message.reasoning_content or message.reasoning or UNSET,
        tool_calls=calls,
        function_call=_function(message.function_call),
        annotations=message.annotations or UNSET,
        audio=message.audio or UNSET,
    )


def _piece(call: _ToolCall, position: int) -> ToolCallPiece:
    """A piece of a call in a delta. The first piece of an index names it; a server without `index` means the position."""
    return ToolCallPiece(
        index=position if call.index is None else call.index,
        id=call.id or UNSET,
        type=call.type or ("function" if call.id else UNSET),
        function=_function(call.function),
        custom=_custom(call.custom),
    )


def _call(call: _ToolCall) -> ToolCallPiece:
    """A whole call: without an id or a name it could never be answered."""
    kind: Literal["custom", "function"] = "custom" if call.custom is not None else "function"
    named = call.custom or call.function
    if not call.id or named is None or not named.name:
        raise UpstreamInvalidResponse(upstream_status=200)
    return ToolCallPiece(id=call.id, type=kind, function=_function(call.function), custom=_custom(call.custom))


def _function(function: _Function | None) -> Any:
    if function is None:
        return UNSET
    return FunctionPiece(name=function.name or UNSET, arguments=UNSET if function.arguments is None else function.arguments)


def _custom(custom: _Custom | None) -> Any:
    if custom is None:
        return UNSET
    return CustomPiece(name=custom.name or UNSET, input=UNSET if custom.input is None else custom.input)


def _reported(usage: dict[str, Any] | None) -> ReportedUsage | None:
    """The upstream's figure. A total that is no count makes the whole unusable; a part is cut to fit into its total."""
    if usage is None:
        return None
    prompt, completion = token_count(usage, "prompt_tokens"), token_count(usage, "completion_tokens")
    if prompt is None or completion is None:
        return ReportedUsage(None)
    prompt_details, completion_details = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    if not prompt_details and not completion_details:
        return ReportedUsage(Usage(prompt, completion))
    cached = min(token_count(prompt_details, "cached_tokens") or 0, prompt)
    cache_write = min(token_count(prompt_details, "cache_write_tokens") or 0, prompt - cached)
    audio = min(token_count(prompt_details, "audio_tokens") or 0, prompt - cached - cache_write)
    reasoning = min(token_count(completion_details, "reasoning_tokens") or 0, completion)
    return ReportedUsage(Usage(prompt, completion, cached, cache_write, audio, reasoning))
