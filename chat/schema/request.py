"""The body of `POST /v1/chat/completions`: OpenAI's current parameter set, with the extras of the product.

An explicit `null` means absent. Types and simple ranges are checked by the decoder from these annotations; rules that
look at more than one field live in `chat.decode`. `None` is never encoded, so a request can be encoded as it is.
Unknown fields are refused everywhere, so that `chat.decode` learns of them without reading every body twice: it takes them
out and names them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

ToolName = Annotated[str, Meta(pattern=r"\A[a-zA-Z0-9_-]{1,64}\Z")]
SpeakerName = Annotated[str, Meta(max_length=256)]
Filled = Annotated[str, Meta(min_length=1)]
Label = Annotated[str, Meta(max_length=65_536)]


class _Known(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    pass


class CacheControl(_Known, frozen=True):
    """Where a prompt cache may end: Anthropic's field, which its customers send through any client."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class _Part(_Known, frozen=True, tag_field="type"):
    pass


class TextPart(_Part, frozen=True, tag="text"):
    text: str
    cache_control: CacheControl | None = None


class ImageUrl(_Known, frozen=True):
    url: Filled
    detail: Literal["low", "high", "auto", "original"] | None = None


class ImagePart(_Part, frozen=True, tag="image_url"):
    image_url: ImageUrl
    cache_control: CacheControl | None = None


class InputAudio(_Known, frozen=True):
    data: Filled
    format: Literal["wav", "mp3", "pcm16", "webm"]


class AudioPart(_Part, frozen=True, tag="input_audio"):
    input_audio: InputAudio
    cache_control: CacheControl | None = None


class FileSource(_Known, frozen=True):
    file_id: str | None = None
    file_data: str | None = None
    data: str | None = None
    mime_type: str | None = None
    filename: str | None = None


class FilePart(_Part, frozen=True, tag="file"):
    file: FileSource | None = None
    file_id: str | None = None
    cache_control: CacheControl | None = None


class RefusalPart(_Part, frozen=True, tag="refusal"):
    refusal: str


Part = TextPart | ImagePart | AudioPart | FilePart | RefusalPart


class FunctionCall(_Known, frozen=True):
    name: Filled
    arguments: str


class CustomCall(_Known, frozen=True):
    name: Filled
    input: str


class ToolCall(_Known, frozen=True):
    """A call an assistant message replays. One of `function` and `custom` is set, as `type` says."""

    id: Filled
    type: Literal["function", "custom"]
    function: FunctionCall | None = None
    custom: CustomCall | None = None


class _Message(_Known, frozen=True, tag_field="role"):
    pass


class SystemMessage(_Message, frozen=True, tag="system"):
    content: str | list[Part]
    name: SpeakerName | None = None


class DeveloperMessage(_Message, frozen=True, tag="developer"):
    content: str | list[Part]
    name: SpeakerName | None = None


class UserMessage(_Message, frozen=True, tag="user"):
    content: str | list[Part]
    name: SpeakerName | None = None


class AssistantMessage(_Message, frozen=True, tag="assistant"):
    content: str | list[Part] | None = None
    name: SpeakerName | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None


class ToolMessage(_Message, frozen=True, tag="tool"):
    content: str | list[Part]
    tool_call_id: str


class FunctionMessage(_Message, frozen=True, tag="function"):
    """Deprecated by OpenAI, still accepted."""

    content: str | None
    name: Filled


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage


class FunctionDefinition(_Known, frozen=True):
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class CustomDefinition(_Known, frozen=True):
    name: ToolName
    description: str | None = None
    format: dict[str, Any] | None = None


class FunctionTool(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type", tag="function"
):
    function: FunctionDefinition
    cache_control: CacheControl | None = None


class CustomTool(_Known, frozen=True, tag_field="type", tag="custom"):
    custom: CustomDefinition


Tool = FunctionTool | CustomTool


class NamedFunction(_Known, frozen=True):
    name: str


class FunctionChoice(_Known, frozen=True, tag_field="type", tag="function"):
    function: NamedFunction


class CustomChoice(_Known, frozen=True, tag_field="type", tag="custom"):
    custom: NamedFunction


class AllowedTools(_Known, frozen=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionChoice | CustomChoice], Meta(min_length=1, max_length=128)]


class AllowedToolsChoice(_Known, frozen=True, tag_field="type", tag="allowed_tools"):
    allowed_tools: AllowedTools


ToolChoice = FunctionChoice | CustomChoice | AllowedToolsChoice


class TextFormat(_Known, frozen=True, tag_field="type", tag="text"):
    pass


class JsonObjectFormat(_Known, frozen=True, tag_field="type", tag="json_object"):
    pass


class JsonSchema(_Known, frozen=True):
    name: ToolName
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None

    def described(self) -> dict[str, Any]:
        """The schema with its name as the title and with both descriptions, for a dialect that takes the schema alone."""
        schema = self.schema or {}
        told = {"title": self.name} | ({} if self.description is None else {"description": self.description}) | schema
        own = schema.get("description")
        if self.description and isinstance(own, str) and own != self.description:
            told["description"] = f"{self.description}\n\n{own}"
        return told


class JsonSchemaFormat(_Known, frozen=True, tag_field="type", tag="json_schema"):
    json_schema: JsonSchema


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat


class StreamOptions(_Known, frozen=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


Temperature = Annotated[float, Meta(ge=0, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
TokenLimit = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Bias = Annotated[int, Meta(ge=-100, le=100)] | Annotated[float, Meta(ge=-100, le=100)]


class ChatRequest(_Known, frozen=True):
    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)]
    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionDefinition] | None = None
    function_call: str | NamedFunction | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, Bias] | None = None
    user: Label | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    prompt_cache_key: Label | None = None
    metadata: dict[str, str] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    modalities: Annotated[list[Literal["text", "audio"]], Meta(min_length=1)] | None = None

    @property
    def output_limit(self) -> int | None:
        """The client's own limit on output tokens, under either of its names."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def choice_count(self) -> int:
        return self.n or 1


class NotForwarded(msgspec.Struct, frozen=True):
    """Fields of OpenAI that are checked and listed as ignored: they would change what a call costs, or need OpenAI's own services."""

    service_tier: str | None = None
    store: bool | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None


class DecodedRequest(msgspec.Struct, frozen=True):
    """A valid request and the names of top-level fields that are not forwarded."""

    chat: ChatRequest
    ignored: tuple[str, ...] = ()
