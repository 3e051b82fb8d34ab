"""How much text a request carries, in UTF-8 bytes over messages and tools; `response_format` is the quote's own business."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from chat.schema.request import (
    AssistantMessage,
    ChatRequest,
    DeveloperMessage,
    Message,
    Part,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)

_PLAIN = (UserMessage, SystemMessage, DeveloperMessage)


def text_bytes(request: ChatRequest) -> int:
    size = 0
    for message in request.messages:
        if isinstance(message, _PLAIN) and isinstance(message.content, str) and message.name is None:
            size += _size(message.content)  # nearly always
        else:
            size += sum(map(_size, _texts(message)))
    if request.tools is not None:
        size += len(msgspec.json.encode(request.tools))
    if request.functions is not None:
        size += len(msgspec.json.encode(request.functions))
    return size


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _texts(message: Message) -> Iterator[str]:
    """Every text of a message that a model reads."""
    if isinstance(message.content, str):
        yield message.content
    elif message.content is not None:
        yield from map(_part_text, message.content)
    if isinstance(message, ToolMessage):
        yield message.tool_call_id
    elif message.name is not None:
        yield message.name
    if isinstance(message, AssistantMessage):
        yield message.refusal or ""
        yield message.reasoning_content or ""
        for call in message.tool_calls or ():
            yield call.id
            if call.function is not None:
                yield from (call.function.name, call.function.arguments)
            if call.custom is not None:
                yield from (call.custom.name, call.custom.input)
        if message.function_call is not None:
            yield from (message.function_call.name, message.function_call.arguments)


def _part_text(part: Part) -> str:
    if isinstance(part, TextPart):
        return part.text
    return part.refusal if isinstance(part, RefusalPart) else ""
