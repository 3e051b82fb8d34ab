"""Gemini's answers in our shape. A whole answer is read as a stream of one event, so that both modes mean the same.

Each event is a whole response with what is new in it. Calls come in one piece. Usage is cumulative, and there is no end mark:
a stream is whole when every candidate that began has its finish reason. Parts of other kinds (code that ran at the provider,
images) are not asked for and not read; neither are citations and grounding.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import UNSET

from chat.errors import UpstreamAuthFailed, UpstreamError, UpstreamInvalidResponse
from chat.providers.base import Asked
from chat.providers.gemini.failure import failure_inside
from chat.providers.gemini.turns import wire_name
from chat.providers.gemini.usage import reported
from chat.schema.reply import (
    Choice,
    ChoiceDelta,
    Chunk,
    Delta,
    FinishReason,
    FunctionPiece,
    Message,
    Reply,
    ToolCallPiece,
    ToolState,
)
from chat.schema.request import FunctionTool

_UNSPECIFIED = "FINISH_REASON_UNSPECIFIED"
_ACCOUNT_LIMITED = "PUP_LIMITED_DISABLED"
_WITHHELD = (
    "SAFETY",
    "RECITATION",
    "LANGUAGE",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
    "MODEL_ARMOR",
    "ESCALATION",
)
_FINISH_REASONS: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(_WITHHELD, "content_filter"),
}
_FAILURES = frozenset(
    {
        "OTHER",
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE",
        "NO_IMAGE",
        "IMAGE_OTHER",
    }
)


class _Call(msgspec.Struct):
    name: str | None = None
    id: str | None = None
    args: dict[str, Any] | None = None


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _Call | None = None


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Token(msgspec.Struct, rename="camel"):
    token: str = ""
    log_probability: float = 0.0


class _Tokens(msgspec.Struct):
    candidates: list[_Token] | None = None


class _Logprobs(msgspec.Struct, rename="camel"):
    chosen_candidates: list[_Token] | None = None
    top_candidates: list[_Tokens] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    index: int | None = None
    content: _Content | None = None
    finish_reason: str | None = None
    logprobs_result: _Logprobs | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Answer(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: dict[str, Any] | None = None
    response_id: str | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Answer)


def whole_reply(asked: Asked, body: bytes) -> Reply:
    """Raises UpstreamFailure; UpstreamInvalidResponse where a candidate did not end."""
    chunk = GeminiStream(asked).decode("message", body)
    if chunk is None or not chunk.choices:
        raise UpstreamInvalidResponse(upstream_status=200)
    return Reply(tuple([_whole(choice) for choice in chunk.choices]), chunk.usage, states=chunk.states)


def _whole(choice: ChoiceDelta) -> Choice:
    if choice.finish_reason is None:
        raise UpstreamInvalidResponse(upstream_status=200)
    delta = choice.delta
    message = Message(
        role="assistant",
        content=delta.content or (None if delta.tool_calls else ""),
        reasoning_content=delta.reasoning_content,
        tool_calls=[msgspec.structs.replace(call, index=UNSET) for call in delta.tool_calls] if delta.tool_calls else UNSET,
    )
    return Choice(choice.index, message, choice.finish_reason, choice.logprobs)


class GeminiStream:
    """Decodes one stream."""

    def __init__(self, asked: Asked) -> None:
        self.is_done = False
        self._asked = asked
        functions = [tool.function.name for tool in asked.request.tools or () if isinstance(tool, FunctionTool)]
        self._names = {wire_name(name): name for name in functions}
        self._is_one_call = asked.request.parallel_tool_calls is False
        self._call_counts: dict[int, int] = {}
        self._begun: set[int] = set()
        self._finished: set[int] = set()

    def decode(self, event: str, data: bytes) -> Chunk | None:
        if not data:
            return None
        answer = _decoded(data)
        states: list[ToolState] = []
        choices = [self._choice(candidate, answer, data, states) for candidate in answer.candidates or ()]
        if not choices and answer.prompt_feedback is not None and answer.prompt_feedback.block_reason:
            choices = [self._blocked(index) for index in sorted(self._begun - self._finished) or [0]]
        return Chunk(tuple(choices), reported(answer.usage_metadata), states=tuple(states))

    def flush(self) -> None:
        if self._begun - self._finished:
            raise UpstreamError(upstream_status=200)
        if not self._finished:
            raise UpstreamInvalidResponse(upstream_status=200)

    def _blocked(self, index: int) -> ChoiceDelta:
        self._finished.add(index)
        return ChoiceDelta(index, Delta(), "content_filter")

    def _choice(self, candidate: _Candidate, answer: _Answer, data: bytes, states: list[ToolState]) -> ChoiceDelta:
        index = candidate.index or 0
        self._begun.add(index)
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[ToolCallPiece] = []
        content = candidate.content
        for part in (content.parts or ()) if content is not None else ():
            if part.function_call is not None:
                call = self._call(part.function_call, index, answer.response_id, data)
                if call is None:
                    continue
                calls.append(call)
                if part.thought_signature and isinstance(call.id, str):
                    states.append(ToolState(call.id, part.thought_signature.encode()))
            elif part.text:
                (thoughts if part.thought else texts).append(part.text)
        delta = Delta(
            content="".join(texts) or UNSET,
            reasoning_content="".join(thoughts) or UNSET,
            tool_calls=calls or UNSET,
        )
        return ChoiceDelta(index, delta, self._reason(candidate.finish_reason, index), _logprobs(candidate.logprobs_result))

    def _call(self, call: _Call, index: int, response_id: str | None, data: bytes) -> ToolCallPiece | None:
        """A call, whole; None for one more than the client wants at a time."""
        position = self._call_counts.get(index, 0)
        if position and self._is_one_call:
            return None
        if not call.name:
            raise UpstreamInvalidResponse(upstream_status=200)
        self._call_counts[index] = position + 1
        function = FunctionPiece(self._names.get(call.name, call.name), msgspec.json.encode(call.args or {}).decode())
        call_id = call.id or self._minted_id(response_id, data, index, position)
        return ToolCallPiece(index=position, id=call_id, type="function", function=function)

    def _minted_id(self, response_id: str | None, data: bytes, index: int, position: int) -> str:
        """An id that no other call has: of the response by its own id, else by all that was asked and answered."""
        seed = response_id.encode() if response_id else msgspec.json.encode(self._asked.request) + data
        return "call_" + hashlib.sha256(b"%d.%d." % (index, position) + seed).hexdigest()[:24]

    def _reason(self, text: str | None, index: int) -> FinishReason | None:
        if not text or text == _UNSPECIFIED:
            return None
        if text in _FAILURES:
            raise UpstreamError(upstream_status=200)
        if text == _ACCOUNT_LIMITED:
            raise UpstreamAuthFailed(upstream_status=200)
        self._finished.add(index)
        reason = _FINISH_REASONS.get(text, "stop")
        return "tool_calls" if reason == "stop" and self._call_counts.get(index) else reason


def _decoded(data: bytes) -> _Answer:
    try:
        answer = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise failure_inside(data) or UpstreamInvalidResponse(upstream_status=200) from error
    if answer.error:
        raise failure_inside(data) or UpstreamError(upstream_status=200)
    return answer


def _logprobs(result: _Logprobs | None) -> dict[str, Any] | None:
    if result is None or not result.chosen_candidates:
        return None
    tops = result.top_candidates or ()
    content = []
    for position, chosen in enumerate(result.chosen_candidates):
        others = (tops[position].candidates or ()) if position < len(tops) else ()
        content.append({**_token(chosen), "top_logprobs": [_token(other) for other in others]})
    return {"content": content, "refusal": None}


def _token(token: _Token) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.log_probability, "bytes": list(token.token.encode())}
