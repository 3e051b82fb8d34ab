"""What comes in, in this dialect: whole answers, streams, usage (pure)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from billing.pricing import Usage
from chat.errors import UpstreamError, UpstreamInvalidResponse
from chat.providers.base import Asked, token_count
from chat.providers.openai.calls import CallIds, CallPieces, Function, ToolCall, whole_call
from chat.providers.openai.failures import failure_inside
from chat.schema.reply import (
    Choice,
    ChoiceDelta,
    Chunk,
    Delta,
    FinishReason,
    FunctionPiece,
    Message,
    Reply,
    ReportedUsage,
    ToolCallPiece,
)

_DONE = b"[DONE]"
_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "function_call",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "sensitive": "content_filter",
}
_BREAKS = frozenset({"error", "network_error", "insufficient_system_resource", "abort", "aborted", "cancelled", "canceled"})
"""Reasons of servers that gave up in the middle: what came so far is no answer."""


class _Message(msgspec.Struct):
    """A message or a delta: both have the same fields on this wire."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None
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


_answer_decoder = msgspec.json.Decoder(_Answer)


def whole_answer(asked: Asked, body: bytes) -> Reply:
    answer = _decoded(body)
    ids = CallIds(asked)
    choices: dict[int, Choice] = {}
    for choice in answer.choices or ():
        if choice.message is None or choice.index in choices:
            raise _invalid()
        _check_index(choice.index, asked)
        reason = _finish_reason(choice.finish_reason) or "stop"
        choices[choice.index] = Choice(choice.index, _message(choice.message, choice.index, ids), reason, choice.logprobs)
    if not choices:
        raise _invalid()
    return Reply(tuple(choices.values()), _reported(answer.usage), answer.system_fingerprint)


class OpenAIStream:
    """Decodes one stream. The stream is whole when every choice that began has its finish reason."""

    def __init__(self, asked: Asked) -> None:
        self.is_done = False
        self._asked = asked
        self._ids = CallIds(asked)
        self._calls: dict[int, CallPieces] = {}
        self._begun: set[int] = set()
        self._finished: set[int] = set()

    def decode(self, event: str, data: bytes) -> Chunk | None:
        if data == _DONE:
            self.is_done = True
            return None
        if not data or self.is_done:
            return None
        answer = _decoded(data)
        choices = answer.choices
        if not choices:
            deltas: tuple[ChoiceDelta, ...] = ()
        elif len(choices) == 1:
            deltas = (self._choice(choices[0]),)
        else:
            deltas = tuple([self._choice(choice) for choice in choices])
        return Chunk(deltas, None if answer.usage is None else _reported(answer.usage), answer.system_fingerprint)

    def _choice(self, choice: _Choice) -> ChoiceDelta:
        index = choice.index
        if index not in self._begun:
            _check_index(index, self._asked)
            self._begun.add(index)
        reason = None
        if choice.finish_reason:
            reason = _finish_reason(choice.finish_reason)
            self._finished.add(index)
        delta = choice.delta
        if delta is None:
            return ChoiceDelta(index, Delta(), reason, choice.logprobs)
        ours = Delta(  # by position, which takes a third of the time: role, content, reasoning_content, refusal, ...
            UNSET,  # The role is left to the encoder, which says it once per choice.
            delta.content or UNSET,
            delta.reasoning_content or delta.reasoning or UNSET,
            delta.refusal or UNSET,
            self._pieces(delta.tool_calls, index) if delta.tool_calls else UNSET,
            UNSET if delta.function_call is None else _function(delta.function_call),
            delta.annotations or UNSET,
            delta.audio or UNSET,
        )
        return ChoiceDelta(index, ours, reason, choice.logprobs)

    def _pieces(self, calls: list[ToolCall], index: int) -> list[ToolCallPiece]:
        pieces = self._calls.get(index)
        if pieces is None:
            pieces = self._calls[index] = CallPieces(index, self._ids)
        return [pieces.piece(call, position) for position, call in enumerate(calls)]

    def flush(self) -> None:
        if self._begun - self._finished:
            raise UpstreamError(upstream_status=200)
        if not self._finished:
            raise _invalid()


def _check_index(index: int, asked: Asked) -> None:
    """A choice that nobody asked for."""
    if not 0 <= index < asked.request.choice_count:
        raise _invalid()


def _invalid() -> UpstreamInvalidResponse:
    return UpstreamInvalidResponse(upstream_status=200)


def _decoded(data: bytes) -> _Answer:
    try:
        answer = _answer_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid() from error
    if answer.error:
        raise failure_inside(data)
    return answer


def _finish_reason(text: str | None) -> FinishReason | None:
    """The reason in OpenAI's words; one that nobody knows is a stop.

    Servers have many words for a good end (`eos`), and those for a bad one are listed. A failure would take a whole answer from
    a client, who may have had and pays for all of it, for the sake of a word.
    """
    if not text:
        return None
    if text in _BREAKS:
        raise UpstreamError(upstream_status=200)
    return _FINISH_REASONS.get(text, "stop")


def _message(message: _Message, index: int, ids: CallIds) -> Message:
    calls = [whole_call(call, index, number, ids) for number, call in enumerate(message.tool_calls or ())]
    return Message(
        role="assistant",
        content=message.content,
        refusal=message.refusal,
        reasoning_content=message.reasoning_content or message.reasoning or UNSET,
        tool_calls=calls or UNSET,
        function_call=_function(message.function_call),
        annotations=message.annotations or UNSET,
        audio=message.audio or UNSET,
    )


def _function(function: Function | None) -> Any:
    if function is None:
        return UNSET
    return FunctionPiece(name=function.name or UNSET, arguments=UNSET if function.arguments is None else function.arguments)


def _reported(usage: dict[str, Any] | None) -> ReportedUsage | None:
    """The upstream's figure. A total that is no count makes the whole unusable; a part is cut to fit into its total.

    Some servers (xAI) count reasoning beside the completion, which their total tells: then it is added, for it is output.
    """
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
    reasoning = token_count(completion_details, "reasoning_tokens") or 0
    if reasoning and token_count(usage, "total_tokens") == prompt + completion + reasoning:
        completion += reasoning
    reasoning = min(reasoning, completion)
    return ReportedUsage(Usage(prompt, completion, cached, cache_write, audio, reasoning))
