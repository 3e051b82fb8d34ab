"""Parts and fields of messages, and what becomes of media that a model or a dialect does not take (pure)."""

from __future__ import annotations

import operator
from typing import Any, Final

import msgspec

from chat.adapt.changes import Changes
from chat.adapt.documents import conversion, converted, is_converting
from chat.errors import AudioNotSupported, UnsupportedParameter
from chat.schema.content import Content, Image
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
from infery_site.errors import quoted

Place = tuple[int, int]

_FORMATS_NOT_TAKEN: Final[dict[Dialect, frozenset[str]]] = {
    "openai": frozenset(),
    "anthropic": frozenset(),
    "gemini": frozenset({"image/gif"}),
}
MOST_IMAGE_BYTES: Final[dict[Dialect, int]] = {
    "openai": 20 * 1024 * 1024,
    "anthropic": 5 * 1024 * 1024 * 3 // 4,  # of its base64, 5 MB
    "gemini": 20 * 1024 * 1024,
}
"""How large an image may be that the providers of a dialect take."""


def takes_image(dialect: Dialect, image: Image) -> bool:
    """Whether the providers of a dialect take an image as it is."""
    return image.media_type not in _FORMATS_NOT_TAKEN[dialect] and image.size_bytes <= MOST_IMAGE_BYTES[dialect]


def fit_messages(changes: Changes, content: Content) -> None:
    """Parts and fields of messages. A message without any of them is passed as it is."""
    fitted: list[Message] | None = None
    names: list[str] = []
    for index, message in enumerate(changes.request.messages):
        replaced = _fitted(message, index, changes, content, names)
        if replaced is not message:
            fitted = fitted or list(changes.request.messages)
            fitted[index] = replaced
    if is_converting(content, changes.model):
        names.append(conversion(content, changes.model))
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
        parts = [
            new
            for place, part in enumerate(message.content)
            for new in _fitted_parts(part, (index, place), changes, content, names)
        ]
        if isinstance(message, ToolMessage) and _moves_images(changes) and any(isinstance(part, ImagePart) for part in parts):
            names.append("tool_image=user_message")
        if len(parts) != len(message.content) or any(map(operator.is_not, parts, message.content)):
            fields["content"] = parts
    return msgspec.structs.replace(message, **fields) if fields else message


def _moves_images(changes: Changes) -> bool:
    """Whether the results of tools are text only there, so that their images follow in what the user says."""
    return changes.dialect == "openai" or (changes.dialect == "gemini" and "thinking_budget" in changes.target.quirks)


def _fitted_parts(part: Part, place: Place, changes: Changes, content: Content, names: list[str]) -> list[Part]:
    """What goes out in the place of a part: one, or for a document that the model does not read, several."""
    model, document = changes.model, content.documents.get(place)
    if document is not None and isinstance(part, FilePart) and is_converting(content, model):
        parts = converted(part, document, model, _path(place))
    else:
        parts = [_resolved(part, place, changes, content, names)]
    return [_fitted_part(one, changes.dialect, names) for one in parts]


def _resolved(given: Part, place: Place, changes: Changes, content: Content, names: list[str]) -> Part:
    """The part with its bytes, in a format that the dialect takes."""
    part, dialect = content.parts.get(place, given), changes.dialect
    if place in content.images and not takes_image(dialect, content.images[place]):
        if place not in content.converted:
            message = (
                f"The image is too large for the model {quoted(changes.model.slug)}, or of a format that it does not take."
            )
            raise UnsupportedParameter(_path(place), message)
        part = content.converted[place]
        names.append("image=converted")
    heard = content.audio.get(place)
    if isinstance(part, AudioPart) and heard is not None and part.input_audio.format != heard.format:
        names.append("audio=wav")
    if isinstance(given, FilePart):
        if isinstance(part, ImagePart) and "vision" not in changes.model.capabilities:
            raise UnsupportedParameter(_path(place), f"The model {quoted(changes.model.slug)} does not take images.")
        if isinstance(part, AudioPart) and "audio_input" not in changes.model.capabilities:
            raise AudioNotSupported(changes.model.slug, _path(place))
        has_name = given.file is not None and given.file.filename is not None
        if has_name and (dialect == "gemini" or not isinstance(part, FilePart)):
            names.append("dropped=file.filename")
    return part


def _fitted_part(part: Part, dialect: Dialect, names: list[str]) -> Part:
    if dialect == "anthropic" and is_blank_part(part):
        names.append("dropped=messages.content:blank")
    if not isinstance(part, RefusalPart) and part.cache_control is not None:
        part = msgspec.structs.replace(part, cache_control=fitted_cache(part.cache_control, dialect, names))
    if isinstance(part, ImagePart) and part.image_url.detail not in {None, "auto"} and dialect != "openai":
        part = msgspec.structs.replace(part, image_url=msgspec.structs.replace(part.image_url, detail=None))
        names.append("dropped=image_url.detail")
    return part


def _path(place: Place) -> str:
    return f"messages[{place[0]}].content[{place[1]}]"


def fitted_cache(control: CacheControl, dialect: Dialect, names: list[str]) -> CacheControl | None:
    """Writing for an hour costs more than the price of writing says: what is written lasts five minutes."""
    if dialect != "anthropic":
        names.append("dropped=cache_control")
        return None
    if control.ttl == "1h":
        names.append("clamped=cache_control.ttl:5m")
        return CacheControl("ephemeral")
    return control
