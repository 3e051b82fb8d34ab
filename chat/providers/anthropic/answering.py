"""A whole answer of this dialect, and what both modes make of its parts (pure)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from billing.pricing import Usage
from chat.providers.anthropic.failures import failure_inside
from chat.providers.anthropic.grammar import ANSWER, BLOCKS, Block, invalid, known, read
from chat.providers.base import MOST_TOKENS, token_count
from chat.schema.reply import (
    Choice,
    FinishReason,
    FunctionPiece,
    Message,
    Reply,
    ReportedUsage,
    ToolCallPiece,
    ToolState,
)

_FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

_NO_ARGUMENTS = b"{}"

_encoder = msgspec.json.Encoder()


def whole_answer(body: bytes) -> Reply:
    message = read(ANSWER, body)
    if message.error is not None:
        raise failure_inside(message.error)
    if message.content is None:
        raise invalid()
    blocks = [block for raw in message.content if (block := known(raw, BLOCKS)) is not None]
    calls = [block for block in blocks if block.type == "tool_use"]
    text = "".join([block.text or "" for block in blocks if block.type == "text"])
    answer = Message(
        role="assistant",
        content=text or (None if calls else ""),
        reasoning_content="".join([block.thinking or "" for block in blocks if block.type == "thinking"]) or UNSET,
        tool_calls=[call_piece(block, arguments_of(block)) for block in calls] or UNSET,
    )
    choice = Choice(0, answer, finish_reason(message.stop_reason))
    return Reply((choice,), reported(message.usage), states=states_of(blocks))


def call_piece(block: Block, arguments: str, number: int | UnsetType = UNSET) -> ToolCallPiece:
    if not block.id or not block.name:
        raise invalid()
    return ToolCallPiece(index=number, id=block.id, type="function", function=FunctionPiece(block.name, arguments))


def arguments_of(block: Block) -> str:
    """The input of a call: as it was written, without the white space between."""
    try:
        text = msgspec.json.format(bytes(block.input) or _NO_ARGUMENTS, indent=-1).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid() from error
    if not text.startswith("{"):
        raise invalid()
    return text


def states_of(blocks: list[Block]) -> tuple[ToolState, ...]:
    """The thinking that led to calls, which the provider wants back with them unchanged; under the first call."""
    call = next((block for block in blocks if block.type == "tool_use"), None)
    thoughts = []
    for block in blocks:
        if block.type == "thinking":
            thought = {"thinking": block.thinking or "", "signature": block.signature or ""}
            thoughts.append({"type": block.type} | thought)
        elif block.type == "redacted_thinking":
            thoughts.append({"type": block.type, "data": block.data or ""})
    if call is None or not thoughts:
        return ()
    return (ToolState(call.id or "", _encoder.encode(thoughts)),)


def finish_reason(stop_reason: str | None) -> FinishReason:
    """A reason nobody knows yet is a stop; none at all is no end."""
    if not stop_reason:
        raise invalid()
    return _FINISH_REASONS.get(stop_reason, "stop")


def reported(usage: dict[str, Any] | None) -> ReportedUsage | None:
    """The provider's figure. What was read from and written to its cache is not in its `input_tokens`, but in ours."""
    if not usage:
        return None
    fresh, read, written, completion = (
        token_count(usage, name)
        for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
    )
    if fresh is None or read is None or written is None or completion is None:
        return ReportedUsage(None)
    prompt = fresh + read + written
    if prompt > MOST_TOKENS:
        return ReportedUsage(None)
    thinking = token_count(usage.get("output_tokens_details"), "thinking_tokens") or 0
    return ReportedUsage(Usage(prompt, completion, read, written, 0, min(thinking, completion)))
