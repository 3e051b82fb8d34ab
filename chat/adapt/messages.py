"""Parts and fields of messages (pure)."""

from __future__ import annotations

from typing import Any

import msgspec

from chat.adapt.changes import Changes
from chat.schema.content import Content
from chat.schema.request import (
    AssistantMessage,
    AudioPart,
    CacheControl,
    FilePart,
    FunctionMessage,
    ImagePart,
    Message,
    Part,
    RefusalPart,
    ToolMessage,
)
from chat.schema.route import Dialect
from chat.thinking import is_blank, is_blank_part


def fit_messages(changes: Changes, content: Content) -> None:
    """Parts and fields of messages. A message without any of them is passed as it is."""
    fitted: list[Message] | None = None
    names: list[str] = []
    for index, message in enumerate(changes.request.messages):
        replaced = _fitted(message, index, changes, content, names)
        if replaced is not message:
            fitted = fitted or list(changes.request.messages)
            fitted[index] = replaced
    if fitted is not None:
        changes.fields["messages"] = fitted
    changes.names += dict.fromkeys(names)


def _fitted(message: Message, index: int, changes: Changes, content: Content, names: list[str]) -> Message:
    fields: dict[str, Any] = {}
    dialect = changes.dialect
    takes_reasoning = dialect == "openai" and "reasoning_content" in changes.target.quirks
    if dialect != "openai" and not isinstance(message, (ToolMessage, FunctionMessage)) and message.name is not None:
        fields["name"] = None
        names.append("dropped=messages.name")
    if dialect == "anthropic" and isinstance(message.content, str) and message.content and is_blank(message.content):
        names.append("dropped=messages.content:blank")
    if isinstance(message, AssistantMessage) and message.reasoning_content is not None and not takes_reasoning:
        fields["reasoning_content"] = None
        names.append("dropped=messages.reasoning_content")
    if isinstance(message.content, list):
        parts = [_fitted_part(part, (index, place), dialect, content, names) for place, part in enumerate(message.content)]
        if isinstance(message, ToolMessage) and _moves_images(changes) and any(isinstance(part, ImagePart) for part in parts):
            names.append("tool_image=user_message")
        if any(new is not old for new, old in zip(parts, message.content, strict=True)):
            fields["content"] = parts
    return msgspec.structs.replace(message, **fields) if fields else message


def _moves_images(changes: Changes) -> bool:
    """Whether the results of tools are text only there, so that their images follow in what the user says."""
    return changes.dialect == "openai" or (changes.dialect == "gemini" and "thinking_budget" in changes.target.quirks)


def _fitted_part(part: Part, place: tuple[int, int], dialect: Dialect, content: Content, names: list[str]) -> Part:
    given = part
    if place in content.parts:
        part = content.parts[place]
        if isinstance(part, AudioPart):
            names.append("audio=wav")
    if dialect == "anthropic" and is_blank_part(part):
        names.append("dropped=messages.content:blank")
    if not isinstance(part, RefusalPart) and part.cache_control is not None:
        part = msgspec.structs.replace(part, cache_control=fitted_cache(part.cache_control, dialect, names))
    if isinstance(part, ImagePart) and part.image_url.detail not in {None, "auto"} and dialect != "openai":
        part = msgspec.structs.replace(part, image_url=msgspec.structs.replace(part.image_url, detail=None))
        names.append("dropped=image_url.detail")
    if dialect == "gemini" and isinstance(given, FilePart) and given.file is not None and given.file.filename is not None:
        names.append("dropped=file.filename")
    return part


def fitted_cache(control: CacheControl, dialect: Dialect, names: list[str]) -> CacheControl | None:
    """Writing for an hour costs more than the price of writing says: what is written lasts five minutes."""
    if dialect != "anthropic":
        names.append("dropped=cache_control")
        return None
    if control.ttl == "1h":
        names.append("clamped=cache_control.ttl:5m")
        return CacheControl("ephemeral")
    return control
