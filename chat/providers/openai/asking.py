"""What goes out in this dialect: address, headers and body (pure).

The client's request is OpenAI's own, so the body is that request with the names that the target knows. Two things OpenAI
has no shape for are said in another one: a file in the product's own shape becomes a data URI with a name, and images in
the result of a tool, where only text may stand, follow in a message of the user.
"""

from __future__ import annotations

import itertools
from urllib.parse import quote

import msgspec

from chat.providers.base import Asked, UpstreamCall
from chat.schema.request import (
    FilePart,
    FileSource,
    ImagePart,
    Message,
    Part,
    StreamOptions,
    TextPart,
    ToolMessage,
    UserMessage,
)
from chat.schema.route import TargetInfo

AZURE_VERSION = "api-version=2024-10-21"
"""The version of Azure's API that is asked where the provider's address names none."""

_USAGE_ASKED = StreamOptions(include_usage=True)
_PDF = "application/pdf"
_FILE_NAME = "document.pdf"

_encoder = msgspec.json.Encoder()


def asking(asked: Asked) -> UpstreamCall:
    request, target, tenant = asked.request, asked.target, asked.tenant
    quirks = target.quirks
    limit = request.output_limit
    is_new_limit = "max_completion_tokens" in quirks
    asks_usage = request.stream and "no_stream_options" not in quirks
    body = msgspec.structs.replace(
        request,
        model=target.upstream_model,
        messages=_messages(request.messages),
        max_tokens=None if is_new_limit else limit,
        max_completion_tokens=limit if is_new_limit else None,
        stream_options=_USAGE_ASKED if asks_usage else None,
        metadata=None,
        user=None if request.user is None else tenant.tag(request.user),
        safety_identifier=None if request.safety_identifier is None else tenant.tag(request.safety_identifier),
        prompt_cache_key=tenant.tag(request.prompt_cache_key or ""),
    )
    headers = [
        ("content-type", "application/json"),
        ("accept", "text/event-stream" if request.stream else "application/json"),
    ]
    if key := target.provider.api_key:
        headers.append(("api-key", key) if "azure" in quirks else ("authorization", f"Bearer {key}"))
    return UpstreamCall(_address(target), tuple(headers), _encoder.encode(body))


def _address(target: TargetInfo) -> str:
    """Azure has the model in its path, as the name of a deployment, and the version of the API behind it."""
    base, _, query = target.provider.base_url.partition("?")
    if "azure" in target.quirks:
        deployment = quote(target.upstream_model, safe="")
        return f"{base.rstrip('/')}/openai/deployments/{deployment}/chat/completions?{query or AZURE_VERSION}"
    return f"{base}/chat/completions" + (f"?{query}" if query else "")


def _messages(messages: list[Message]) -> list[Message]:
    """The messages as this dialect has them; the very same list where nothing is to be said otherwise."""
    if not any(isinstance(message.content, list) for message in messages):
        return messages
    out: list[Message] = []
    for is_result, group in itertools.groupby(messages, lambda message: isinstance(message, ToolMessage)):
        said = list(group)
        out += _results(said) if is_result else [_with_files(message) for message in said]
    return out


def _with_files(message: Message) -> Message:
    if not isinstance(message, UserMessage) or not isinstance(message.content, list):
        return message
    return msgspec.structs.replace(message, content=[_part(part) for part in message.content])


def _part(part: Part) -> Part:
    if not isinstance(part, FilePart) or part.file is None:
        return part
    data = part.file.file_data or part.file.data
    if data is None:
        return part
    uri = data if data[:5].lower() == "data:" else f"data:{part.file.mime_type or _PDF};base64,{data}"
    return FilePart(FileSource(file_data=uri, filename=part.file.filename or _FILE_NAME))


def _results(messages: list[Message]) -> list[Message]:
    """The results of a turn, text only, and then their images."""
    out: list[Message] = []
    shown: list[Part] = []
    for message in messages:
        parts = message.content if isinstance(message.content, list) else []
        images = [part for part in parts if isinstance(part, ImagePart)]
        if not isinstance(message, ToolMessage) or not images:
            out.append(message)
            continue
        texts = [part for part in parts if not isinstance(part, ImagePart)]
        out.append(msgspec.structs.replace(message, content=texts or "See the image below."))
        shown += [TextPart(f"From the result of the tool call {message.tool_call_id}:"), *images]
    return [*out, UserMessage(shown)] if shown else out
