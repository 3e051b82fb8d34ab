"""What a request carries besides its parameters: how much text, and its inline images, decoded and judged.

An image counts only by its own bytes, never by what is said of it. Its pixels are not decoded, and it goes to the
provider as it came. What this gateway does not carry yet (files, audio, images by URL) is refused here by name.
Text is measured in UTF-8 bytes over messages and tools; `response_format` is the quote's own business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec

from chat.content.images import inspect
from chat.content.inline import decode_data_uri
from chat.errors import InvalidRequest, UnsupportedParameter
from chat.schema.content import Content, Image
from chat.schema.request import (
    AssistantMessage,
    AudioPart,
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    Part,
    RefusalPart,
    TextPart,
    ToolMessage,
)
from chat.schema.route import Route
from chat.states import recall
from infery_site.errors import ApiError

MAX_IMAGES = 100
MAX_CONTENT_BYTES = 50 * 1024 * 1024
THREAD_FROM_CHARACTERS = 256 * 1024

_Place = tuple[int, int]


async def resolve(request: ChatRequest, route: Route, workspace_id: int) -> Content:
    """The content of `request`, and the provider state of the calls it replays where somebody on the route may want it.

    Raises InvalidRequest for a bad image, UnsupportedParameter for what is not carried, a 413 for more than 20 MB in one
    image or 50 MB in all. Work that takes long runs in a thread, so that other requests go on.
    """
    urls = _image_urls(request.messages)
    images: dict[_Place, Image] = {}
    if urls:
        is_heavy = sum(map(len, urls.values())) > THREAD_FROM_CHARACTERS
        images = await asyncio.to_thread(_judged, urls) if is_heavy else _judged(urls)
    return Content(_text_bytes(request), images, states=await recall(workspace_id, request, route))


def _image_urls(messages: list[Message]) -> dict[_Place, str]:
    urls: dict[_Place, str] = {}
    for index, message in enumerate(messages):
        if not isinstance(message.content, list):
            continue
        for position, part in enumerate(message.content):
            if isinstance(part, ImagePart):
                urls[index, position] = part.image_url.url
            elif isinstance(part, FilePart):
                raise UnsupportedParameter(
                    _path(index, position), "Files are not offered by this gateway yet. Send their text."
                )
            elif isinstance(part, AudioPart):
                raise UnsupportedParameter(_path(index, position), "Audio is not offered by this gateway yet. Send its text.")
    if len(urls) > MAX_IMAGES:
        raise InvalidRequest("too_many_images", f"The messages must have at most {MAX_IMAGES} images in all.", "messages")
    return urls


def _path(index: int, position: int) -> str:
    return f"messages[{index}].content[{position}]"


def _judged(urls: dict[_Place, str]) -> dict[_Place, Image]:
    images = {}
    total_bytes = 0
    for place, url in urls.items():
        param = f"{_path(*place)}.image_url.url"
        media_type, data = decode_data_uri(url, param)
        images[place] = inspect(data, media_type, param)
        total_bytes += len(data)
        if total_bytes > MAX_CONTENT_BYTES:
            message = f"The images take more than {MAX_CONTENT_BYTES // 1024**2} MB in all."
            raise ApiError(413, "request_too_large", message, param=param)
    return images


def _text_bytes(request: ChatRequest) -> int:
    size = sum(_size(text) for message in request.messages for text in _texts(message))
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
