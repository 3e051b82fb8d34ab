"""What the sandbox answers to a request (pure)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from chat.sandbox.directives import Directives, ToolDirective
from chat.sandbox.instances import NoInstanceError, minimal_instance
from chat.schema import request as schema

BYTES_PER_TOKEN = 4
TOKENS_PER_ATTACHMENT = 85
OUTPUT_LIMIT_TOKENS = 16_384

# Four bytes each with their space, so that a number of words is a number of tokens.
_FILLER = ("the", "sun", "was", "low", "and", "our", "cat", "sat", "for", "one", "day", "but", "she", "had", "not", "yet")
_NOTHING_SAID = "Say something and I will repeat it."

Finish = Literal["stop", "length", "tool_calls", "function_call"]


class RefusalError(Exception):
    """The sandbox answers 400. `param` names the field."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class Call(msgspec.Struct, frozen=True):
    """`arguments` is JSON text of a function's arguments, or the free input of a custom tool."""

    kind: Literal["function", "custom"]
    name: str
    arguments: str


class Answer(msgspec.Struct, frozen=True):
    """One choice; all choices of a reply are equal. `text` is None when tools are called."""

    text: str | None
    finish_reason: Finish
    calls: tuple[Call, ...] = ()
    prompt_tokens: int = 0

    @property
    def completion_tokens(self) -> int:
        return tokens_in(self.text or "", *(part for call in self.calls for part in (call.name, call.arguments)))


def tokens_in(*texts: str) -> int:
    return math.ceil(sum(len(text.encode()) for text in texts) / BYTES_PER_TOKEN)


def last_user_text(chat: schema.ChatRequest) -> str:
    for message in reversed(chat.messages):
        if isinstance(message, schema.UserMessage):
            return _text_of(message.content)
    return ""


def compose(chat: schema.ChatRequest, directives: Directives, said: str) -> Answer:
    """The answer to `chat`, whose last user message says `said` besides its directives. Raises RefusalError."""
    prompt_tokens = _prompt_tokens(chat.messages)
    results = _tool_results(chat.messages)
    calls = () if results else _calls(chat, directives)
    if calls:
        finish: Finish = "tool_calls" if chat.tools or not chat.functions else "function_call"
        return Answer(None, finish, calls, prompt_tokens)
    if results:
        text = "\n".join(f"The tool answered: {result}" for result in results)
    elif directives.tokens is not None:
        text = " ".join(itertools.islice(itertools.cycle(_FILLER), min(directives.tokens, OUTPUT_LIMIT_TOKENS + 1)))
    else:
        text = _echo(chat, said)
    text, finish = _cut(_formatted(chat.response_format, text), chat)
    return Answer(text, finish, (), prompt_tokens)


def _echo(chat: schema.ChatRequest, said: str) -> str:
    asked = next((message for message in reversed(chat.messages) if isinstance(message, schema.UserMessage)), None)
    attachments = [] if asked is None or isinstance(asked.content, str) else list(_attachments(asked.content))
    if attachments:
        said = f"{said}\n\nReceived {len(attachments)}: {', '.join(attachments)}.".strip()
    return said or _NOTHING_SAID


def _attachments(parts: Iterable[schema.Part]) -> Iterable[str]:
    for part in parts:
        match part:
            case schema.ImagePart(image_url=image):
                media_type, _, data = image.url.removeprefix("data:").partition(";base64,")
                yield f"{media_type} of {_decoded_bytes(data)} bytes" if data else "an image by address"
            case schema.AudioPart(input_audio=audio):
                yield f"audio/{audio.format} of {_decoded_bytes(audio.data)} bytes"
            case schema.FilePart(file=file):
                name = file.filename if file is not None and file.filename else "a file"
                data = (file.file_data or file.data or "") if file is not None else ""
                yield f"{name} of {_decoded_bytes(data.rpartition(',')[2])} bytes" if data else name


def _decoded_bytes(base64_text: str) -> int:
    return len(base64_text.rstrip("=")) * 3 // 4


def _text_of(content: str | list[schema.Part] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.text for part in content if isinstance(part, schema.TextPart))


def _tool_results(messages: list[schema.Message]) -> list[str]:
    """The contents of the tool messages that the conversation ends with."""
    results: list[str] = []
    for message in reversed(messages):
        if not isinstance(message, schema.ToolMessage | schema.FunctionMessage):
            break
        results.append(_text_of(message.content))
    return results[::-1]


def _prompt_tokens(messages: list[schema.Message]) -> int:
    texts: list[str] = []
    attachments = 0
    for message in messages:
        texts.append(_text_of(message.content))
        if isinstance(message.content, list):
            attachments += len(list(_attachments(message.content)))
        if isinstance(message, schema.AssistantMessage):
            calls = [call.function for call in message.tool_calls or () if call.function is not None]
            texts.extend(text for call in calls for text in (call.name, call.arguments))
    return tokens_in(*texts) + attachments * TOKENS_PER_ATTACHMENT


def _formatted(response_format: schema.ResponseFormat | None, text: str) -> str:
    if isinstance(response_format, schema.JsonObjectFormat):
        return msgspec.json.encode({"answer": text}).decode()
    if isinstance(response_format, schema.JsonSchemaFormat):
        try:
            value = minimal_instance(response_format.json_schema.schema or {})
        except NoInstanceError as error:
            raise RefusalError(str(error), "response_format") from error
        return msgspec.json.encode(value).decode()
    return text


def _cut(text: str, chat: schema.ChatRequest) -> tuple[str, Finish]:
    """`text` up to the first stop sequence and within the limit on tokens, the request's and the model's own."""
    stops = [chat.stop] if isinstance(chat.stop, str) else chat.stop or []
    ends = [position for stop in stops if stop and (position := text.find(stop)) >= 0]
    text = text[: min(ends)] if ends else text
    limit = OUTPUT_LIMIT_TOKENS // chat.choice_count
    if chat.output_limit is not None:
        limit = min(limit, chat.output_limit)
    if tokens_in(text) > limit:
        return text.encode()[: limit * BYTES_PER_TOKEN].decode(errors="ignore"), "length"
    return text, "stop"


def _calls(chat: schema.ChatRequest, directives: Directives) -> tuple[Call, ...]:
    """The calls that directives ask for, else the one that the request demands."""
    if directives.tools:
        calls = tuple(_directed_call(chat, tool) for tool in directives.tools)
        return calls[:1] if chat.parallel_tool_calls is False or _is_legacy(chat) else calls
    if _is_legacy(chat):
        names = {chat.function_call.name} if isinstance(chat.function_call, schema.NamedFunction) else set()
    else:
        names = _demanded_names(chat)
    tools = _tools(chat)
    name = next((name for name in tools if name in names), None)
    return () if name is None else (_call(name, tools[name]),)


def _is_legacy(chat: schema.ChatRequest) -> bool:
    return not chat.tools and bool(chat.functions)


def _demanded_names(chat: schema.ChatRequest) -> set[str]:
    """Names of the tools one of which must be called; empty if none must."""
    choice = chat.tool_choice
    if isinstance(choice, schema.FunctionChoice):
        return {choice.function.name}
    if isinstance(choice, schema.CustomChoice):
        return {choice.custom.name}
    if isinstance(choice, schema.AllowedToolsChoice):
        if choice.allowed_tools.mode != "required":
            return set()
        allowed = choice.allowed_tools.tools
        return {tool.function.name if isinstance(tool, schema.FunctionChoice) else tool.custom.name for tool in allowed}
    return set(_tools(chat)) if choice == "required" else set()


def _tools(chat: schema.ChatRequest) -> dict[str, schema.FunctionDefinition | schema.CustomDefinition]:
    tools: dict[str, schema.FunctionDefinition | schema.CustomDefinition] = {}
    for tool in chat.tools or ():
        definition = tool.function if isinstance(tool, schema.FunctionTool) else tool.custom
        tools[definition.name] = definition
    for function in chat.functions or ():
        tools.setdefault(function.name, function)
    return tools


def _directed_call(chat: schema.ChatRequest, directive: ToolDirective) -> Call:
    definition = _tools(chat).get(directive.name)
    if directive.arguments is None:
        return _call(directive.name, definition)
    kind: Literal["function", "custom"] = "custom" if isinstance(definition, schema.CustomDefinition) else "function"
    return Call(kind, directive.name, directive.arguments)


def _call(name: str, definition: schema.FunctionDefinition | schema.CustomDefinition | None) -> Call:
    """A call with the smallest arguments that its definition allows."""
    if isinstance(definition, schema.CustomDefinition):
        return Call("custom", name, "text")
    parameters: dict[str, Any] = (definition.parameters if definition is not None else None) or {}
    try:
        arguments = minimal_instance({"type": "object", **parameters})
    except NoInstanceError as error:
        raise RefusalError(str(error), "tools") from error
    return Call("function", name, msgspec.json.encode(arguments).decode())
