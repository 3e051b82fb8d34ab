"""The messages of a request as Gemini's turns.

Invariants: roles alternate between `user` and `model`, the user's is the first, no turn is without parts, a part holds one
kind of data, and the results of a turn's calls open the user's turn that follows. A result names its function, which
OpenAI's does not: the name is that of the call it answers. `chat.adapt` has refused custom tools and `functions`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from chat.errors import UnsupportedParameter
from chat.providers.base import Asked
from chat.schema.request import (
    AssistantMessage,
    AudioPart,
    DeveloperMessage,
    FilePart,
    ImagePart,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from chat.schema.request import FunctionCall as AskedCall
from chat.schema.request import Part as AskedPart

UNSIGNED = "skip_thought_signature_validator"
"""Google's documented stand-in for the thought signature of a call that this model did not make, or whose state is gone."""

FILLER = "."
"""What the user says ahead of a conversation that begins with an answer: calls may follow a turn of the user's only."""

_JPEG = "image/jpeg"
_SAME_TYPE = {"image/jpg": _JPEG}

_object_decoder = msgspec.json.Decoder(dict[str, Any])


class Blob(msgspec.Struct, frozen=True, rename="camel"):
    mime_type: str
    data: str


class Media(msgspec.Struct, frozen=True, rename="camel"):
    inline_data: Blob


class FunctionCall(msgspec.Struct, frozen=True):
    id: str
    name: str
    args: dict[str, Any]


class FunctionResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    name: str
    response: dict[str, Any]
    parts: list[Media] | None = None


class Part(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    text: str | None = None
    inline_data: Blob | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    thought_signature: str | None = None


class Turn(msgspec.Struct, frozen=True):
    role: str
    parts: list[Part]


def wire_name(name: str) -> str:
    """A function's name there, where the first character must not be a digit or a dash."""
    return name if name[0].isalpha() or name[0] == "_" else f"_{name}"


def conversation(asked: Asked) -> tuple[list[Turn], list[Part]]:
    """The turns, of which the first is the user's, and the instruction of all system and developer messages."""
    instruction: list[Part] = []
    turns = _Turns()
    is_older = "thinking_budget" in asked.target.quirks
    for message in asked.request.messages:
        if isinstance(message, SystemMessage | DeveloperMessage):
            instruction += _parts(message.content)
        elif isinstance(message, UserMessage):
            turns.add("user", _parts(message.content))
        elif isinstance(message, AssistantMessage):
            turns.add("model", _said(message, asked.states, is_signed=not is_older))
            turns.note_calls(message.tool_calls or [])
        elif isinstance(message, ToolMessage):
            turns.answer(message, is_media_beside=is_older)
        else:
            raise _unsupported("messages with the role 'function'")
    if not turns.all:
        return [Turn("user", instruction or [Part(text="")])], []
    if turns.all[0].role == "model":
        turns.all.insert(0, Turn("user", [Part(text=FILLER)]))
    return turns.all, instruction


class _Turns:
    def __init__(self) -> None:
        self.all: list[Turn] = []
        self._calls: dict[str, tuple[str, int]] = {}
        """By the id of a call its name and its turn; where one id names several, the last."""

    def add(self, role: str, parts: list[Part]) -> None:
        if parts and self.all and self.all[-1].role == role:
            self.all[-1].parts.extend(parts)
        elif parts:
            self.all.append(Turn(role, parts))

    def note_calls(self, calls: list[ToolCall]) -> None:
        for call in calls:
            self._calls[call.id] = (_called(call).name, len(self.all) - 1)

    def answer(self, message: ToolMessage, *, is_media_beside: bool) -> None:
        """Add a result to the turn after its call, behind the results there and ahead of everything else.

        Models that take no media inside a result get them at the end of the turn.
        """
        name, index = self._calls[message.tool_call_id]
        if index + 1 == len(self.all):
            self.all.append(Turn("user", []))
        parts = self.all[index + 1].parts
        shown = [part for part in _parts(message.content) if part.inline_data is not None]
        texts = [part.text for part in _parts(message.content) if part.text is not None]
        inside = [Media(part.inline_data) for part in shown if part.inline_data is not None]
        response = FunctionResponse(
            message.tool_call_id, wire_name(name), _response("\n".join(texts)), None if is_media_beside else inside or None
        )
        position = next((place for place, part in enumerate(parts) if part.function_response is None), len(parts))
        parts.insert(position, Part(function_response=response))
        if is_media_beside:
            parts.extend(shown)


def _parts(content: str | list[AskedPart] | None) -> list[Part]:
    if content is None or isinstance(content, str):
        return [Part(text=content)] if content else []
    return [_media(part) if text is None else Part(text=text) for part in content if (text := _text(part)) != ""]


def _text(part: AskedPart) -> str | None:
    if isinstance(part, TextPart):
        return part.text
    return part.refusal if isinstance(part, RefusalPart) else None


def _media(part: AskedPart) -> Part:
    if isinstance(part, ImagePart):
        return Part(inline_data=_blob(part.image_url.url, _JPEG))
    if isinstance(part, AudioPart):
        return Part(inline_data=Blob(f"audio/{part.input_audio.format}", part.input_audio.data))
    source = part.file if isinstance(part, FilePart) else None
    if source is None:
        raise _unsupported("files by reference")
    return Part(inline_data=_blob(source.file_data or source.data or "", source.mime_type or "application/pdf"))


def _blob(data: str, media_type: str) -> Blob:
    """The bytes of a `data:` URI under its own type, those of bare base64 under `media_type`."""
    if data[:5].lower() == "data:":
        head, _, data = data.partition(",")
        media_type = head[5:].partition(";")[0].lower()
    return Blob(_SAME_TYPE.get(media_type, media_type), data)


def _said(message: AssistantMessage, states: dict[str, bytes], *, is_signed: bool) -> list[Part]:
    if message.function_call is not None:
        raise _unsupported("'function_call' in a message")
    parts = _parts(message.content)
    if message.refusal:
        parts.append(Part(text=message.refusal))
    for position, call in enumerate(message.tool_calls or ()):
        function = _called(call)
        state = states.get(call.id)
        signature = state.decode() if state else UNSIGNED if is_signed and position == 0 else None
        made = FunctionCall(call.id, wire_name(function.name), _arguments(function.arguments))
        parts.append(Part(function_call=made, thought_signature=signature))
    return parts


def _called(call: ToolCall) -> AskedCall:
    if call.function is None:
        raise _unsupported("calls of custom tools")
    return call.function


def _arguments(text: str) -> dict[str, Any]:
    """The arguments of a call; what is no JSON object goes as `_raw`."""
    if not text.strip():
        return {}
    written = _object(text)
    return {"_raw": text} if written is None else written


def _object(text: str) -> dict[str, Any] | None:
    try:
        return _object_decoder.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _response(text: str) -> dict[str, Any]:
    written = _object(text)
    return {"output": text} if written is None else written


def _unsupported(what: str) -> UnsupportedParameter:
    return UnsupportedParameter("messages", f"This model does not take {what}.")
