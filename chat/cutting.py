"""The beginning of a chunk, where credit covers no more of it (pure).

A provider may send much at once, perhaps its whole answer. What the credit covers of that is delivered and paid, so that
work is not free because it came in one piece.
"""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from chat.schema.reply import ChoiceDelta, Chunk, CustomPiece, Delta, FunctionPiece, ToolCallPiece


def beginning(chunk: Chunk, most_bytes: int) -> Chunk:
    """At most so many bytes of the chunk's output, choice by choice in the order in which it would be read.

    Whatever the whole chunk says of itself is left out: its usage, where it finishes, the probabilities of its tokens.
    """
    rest = _Rest(most_bytes)
    choices = [ChoiceDelta(choice.index, _delta(choice.delta, rest)) for choice in chunk.choices]
    return Chunk(tuple([choice for choice in choices if choice.delta != _NOTHING]), None, chunk.system_fingerprint)


_NOTHING = Delta()


class _Rest:
    """The bytes that are left to take; none after the first text that was cut."""

    def __init__(self, most_bytes: int) -> None:
        self._left_bytes = most_bytes

    def take(self, text: str | None | UnsetType) -> str | UnsetType:
        """As much of the text as there is left for, in whole characters; UNSET for nothing."""
        if not text:
            return UNSET
        encoded = text.encode("utf-8", "surrogatepass")
        if len(encoded) <= self._left_bytes:
            self._left_bytes -= len(encoded)
            return text
        end = self._left_bytes
        while end and encoded[end] & 0xC0 == 0x80:  # in the middle of a character
            end -= 1
        self._left_bytes = 0
        return encoded[:end].decode("utf-8", "surrogatepass") or UNSET


def _delta(delta: Delta, rest: _Rest) -> Delta:
    reasoning, content, refusal = [rest.take(text) for text in (delta.reasoning_content, delta.content, delta.refusal)]
    calls = [call for call in [_call(call, rest) for call in delta.tool_calls or ()] if call is not None]
    function = _function(delta.function_call, rest)
    return Delta(
        content=content,
        reasoning_content=reasoning,
        refusal=refusal,
        tool_calls=calls or UNSET,
        function_call=function,
    )


def _call(call: ToolCallPiece, rest: _Rest) -> ToolCallPiece | None:
    """None if nothing is left of it."""
    function = _function(call.function, rest)
    custom: CustomPiece | UnsetType = UNSET
    if call.custom and (named := _named(call.custom.name, call.custom.input, rest)):
        custom = CustomPiece(*named)
    if not function and not custom:
        return None
    return ToolCallPiece(call.index, call.id, call.type, function, custom)


def _function(function: FunctionPiece | UnsetType, rest: _Rest) -> FunctionPiece | UnsetType:
    named = _named(function.name, function.arguments, rest) if function else None
    return FunctionPiece(*named) if named else UNSET


def _named(name: str | UnsetType, text: str | UnsetType, rest: _Rest) -> tuple[str | UnsetType, str | UnsetType] | None:
    """The name as it is, for half of one is another, and of the text what there is left for; None for nothing."""
    if name and rest.take(name) != name:
        return None
    taken = rest.take(text) if text else text
    return (name, taken) if name or taken else None
