"""What a provider answered, in one shape for every dialect and both modes (pure).

The structs of messages and deltas are the wire shapes of OpenAI, so that encoding them is encoding the answer. Fields
that exist only when a provider sent something are `UNSET` otherwise and are then not encoded.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from billing.pricing import Usage

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class FunctionPiece(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class CustomPiece(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str | UnsetType = UNSET
    input: str | UnsetType = UNSET


class ToolCallPiece(msgspec.Struct, frozen=True, omit_defaults=True):
    """In a delta: a piece of the call `index`. In a whole message: the call, without `index`."""

    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: FunctionPiece | UnsetType = UNSET
    custom: CustomPiece | UnsetType = UNSET


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    role: str | UnsetType = UNSET
    content: str | None | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    refusal: str | None | UnsetType = UNSET
    tool_calls: list[ToolCallPiece] | UnsetType = UNSET
    function_call: FunctionPiece | UnsetType = UNSET
    annotations: list[Any] | UnsetType = UNSET
    audio: dict[str, Any] | None | UnsetType = UNSET


class ChoiceDelta(msgspec.Struct, frozen=True):
    index: int
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: dict[str, Any] | None = None


class ToolState(msgspec.Struct, frozen=True):
    """What a provider wants to have back, unread, when the call `tool_call_id` is replayed in a later turn.

    A client cannot carry it: it is kept for the workspace (`chat.states`) and is good for the upstream model that made it.
    """

    tool_call_id: str
    data: bytes


class Chunk(msgspec.Struct, frozen=True):
    """One event of a stream. `usage` is the upstream's own figure, unchecked; the last one counts."""

    choices: tuple[ChoiceDelta, ...] = ()
    usage: ReportedUsage | None = None
    system_fingerprint: str | None = None
    states: tuple[ToolState, ...] = ()

    @property
    def is_real(self) -> bool:
        """True if the chunk carries text, a tool call, a refusal, reasoning text or a finish reason."""
        for choice in self.choices:
            delta = choice.delta
            if (
                choice.finish_reason is not None
                or delta.content
                or delta.tool_calls
                or delta.refusal
                or delta.reasoning_content
                or delta.function_call
                or delta.audio
            ):
                return True
        return False


class Message(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    role: str
    content: str | None
    refusal: str | None | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallPiece] | UnsetType = UNSET
    function_call: FunctionPiece | UnsetType = UNSET
    annotations: list[Any] | UnsetType = UNSET
    audio: dict[str, Any] | None | UnsetType = UNSET


class Choice(msgspec.Struct, frozen=True):
    index: int
    message: Message
    finish_reason: FinishReason
    logprobs: dict[str, Any] | None = None


class ReportedUsage(msgspec.Struct, frozen=True):
    """What the upstream said it used. `None` where it said nothing usable (missing, negative, not an integer)."""

    tokens: Usage | None


class Reply(msgspec.Struct, frozen=True):
    choices: tuple[Choice, ...]
    usage: ReportedUsage | None = None
    system_fingerprint: str | None = None
    states: tuple[ToolState, ...] = ()
