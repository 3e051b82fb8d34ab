"""Rules of a request that its types cannot say: what must agree, what must have been said before, what may be stored.

`check` runs on each request, so it looks at a field only where the field was given. Each refusal names the field and
the limit. Rules that depend on a model belong to the planner.
"""

from __future__ import annotations

from typing import Any

from chat.decode.schemas import TOO_DEEP, bounds_fault, strict_fault
from chat.errors import InvalidRequest, UnsupportedParameter
from chat.schema.request import (
    AllowedToolsChoice,
    AssistantMessage,
    ChatRequest,
    CustomChoice,
    CustomTool,
    DeveloperMessage,
    FunctionDefinition,
    ImagePart,
    JsonSchemaFormat,
    Message,
    Part,
    RefusalPart,
    SystemMessage,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMessage,
)
from infery_site.errors import quoted

MAX_PARTS = 4_096
MAX_TOOLS = 128
MAX_TOOL_CALLS = 128
MAX_STOPS = 4
MAX_STOP_BYTES = 4_096
MAX_BIASES = 1_024
MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY_LENGTH = 64
MAX_METADATA_VALUE_LENGTH = 512

_TEXT_ONLY = frozenset({TextPart})
_PARTS_BY_MESSAGE: dict[type[Message], frozenset[type[Part]]] = {
    SystemMessage: _TEXT_ONLY,
    DeveloperMessage: _TEXT_ONLY,
    AssistantMessage: frozenset({TextPart, RefusalPart}),
    ToolMessage: frozenset({TextPart, ImagePart}),
}
"""User messages are not here: they take every part but a refusal."""

_NUL = "\0"


def check(request: ChatRequest) -> None:
    """Raise InvalidRequest or UnsupportedParameter for the first rule that `request` breaks."""
    _check_messages(request.messages)
    _check_output_limit(request)
    _check_stored(request)
    if request.stop is not None:
        _check_stop(request.stop)
    if request.logit_bias is not None:
        _check_logit_bias(request.logit_bias)
    if request.stream_options is not None and request.stream is not True:
        raise _invalid("stream_options", "'stream_options' is allowed only with 'stream': true.")
    if request.top_logprobs is not None and request.logprobs is not True:
        raise _invalid("top_logprobs", "'top_logprobs' is allowed only with 'logprobs': true.")
    if request.modalities is not None and "audio" in request.modalities:
        raise UnsupportedParameter("modalities", "Audio output is not offered by this gateway.")
    _check_tools(request)
    _check_functions(request)
    if isinstance(request.response_format, JsonSchemaFormat):
        _check_response_format(request.response_format)


def _invalid(param: str, message: str) -> InvalidRequest:
    return InvalidRequest("invalid_value", message, param)


def _check_messages(messages: list[Message]) -> None:
    issued: set[str] = set()
    parts = 0
    for index, message in enumerate(messages):
        content = message.content
        if isinstance(content, list):
            parts += len(content)
            _check_parts(index, message, content, parts)
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in issued:
                param = f"messages[{index}].tool_call_id"
                raise _invalid(param, f"'{param}' must be the id of a tool call in an earlier assistant message.")
        elif message.name is not None and _NUL in message.name:
            raise _nul(f"messages[{index}].name")
        if isinstance(message, AssistantMessage):
            _check_assistant(index, message)
            issued.update([call.id for call in message.tool_calls or ()])


def _check_parts(index: int, message: Message, content: list[Part], parts_so_far: int) -> None:
    param = f"messages[{index}].content"
    if not content:
        raise InvalidRequest("empty_array", f"'{param}' must have at least 1 item.", param)
    if parts_so_far > MAX_PARTS:
        raise InvalidRequest(
            "array_above_max_length", f"The messages must have at most {MAX_PARTS} content parts in all.", param
        )
    allowed = _PARTS_BY_MESSAGE.get(type(message))
    for position, part in enumerate(content):
        is_allowed = type(part) in allowed if allowed is not None else type(part) is not RefusalPart
        if not is_allowed:
            where = f"{param}[{position}].type"
            raise _invalid(where, f"'{where}' is of a kind that a message of this role must not have.")


def _check_assistant(index: int, message: AssistantMessage) -> None:
    calls = message.tool_calls
    if calls is None:
        if message.content is None and message.refusal is None and message.function_call is None:
            param = f"messages[{index}].content"
            text = f"'{param}' is required when there are no 'tool_calls' and no 'refusal'."
            raise InvalidRequest("invalid_type", text, param)
        return
    param = f"messages[{index}].tool_calls"
    if not calls:
        raise InvalidRequest("empty_array", f"'{param}' must have at least 1 item.", param)
    if len(calls) > MAX_TOOL_CALLS:
        raise InvalidRequest("array_above_max_length", f"'{param}' must have at most {MAX_TOOL_CALLS} items.", param)
    for position, call in enumerate(calls):
        if _payload(call) is None:
            where = f"{param}[{position}].{call.type}"
            raise InvalidRequest("missing_required_parameter", f"'{where}' is required.", where)


def _payload(call: ToolCall) -> object:
    return call.function if call.type == "function" else call.custom


def _check_output_limit(request: ChatRequest) -> None:
    old, new = request.max_tokens, request.max_completion_tokens
    if old is not None and new is not None and old != new:
        message = "'max_tokens' and 'max_completion_tokens' are two names of one limit and must not differ."
        raise InvalidRequest("conflicting_parameters", message, "max_tokens")


def _check_stored(request: ChatRequest) -> None:
    """No NUL where a text may be stored or looked up: databases do not take one."""
    if _NUL in request.model:
        raise _nul("model")
    if request.user is not None and _NUL in request.user:
        raise _nul("user")
    if request.safety_identifier is not None and _NUL in request.safety_identifier:
        raise _nul("safety_identifier")
    if request.prompt_cache_key is not None and _NUL in request.prompt_cache_key:
        raise _nul("prompt_cache_key")
    if request.metadata is not None:
        _check_metadata(request.metadata)


def _nul(param: str) -> InvalidRequest:
    return InvalidRequest("invalid_unicode", f"'{param}' must not have the character U+0000.", param)


def _check_metadata(metadata: dict[str, str]) -> None:
    if len(metadata) > MAX_METADATA_PAIRS:
        raise _invalid("metadata", f"'metadata' must have at most {MAX_METADATA_PAIRS} pairs.")
    for key, value in metadata.items():
        if _NUL in key or _NUL in value:
            raise _nul("metadata")
        if len(key) > MAX_METADATA_KEY_LENGTH:
            raise _invalid("metadata", f"A key of 'metadata' must have at most {MAX_METADATA_KEY_LENGTH} characters.")
        if len(value) > MAX_METADATA_VALUE_LENGTH:
            raise _invalid("metadata", f"A value of 'metadata' must have at most {MAX_METADATA_VALUE_LENGTH} characters.")


def _check_stop(stop: str | list[str]) -> None:
    stops = [stop] if isinstance(stop, str) else stop
    if not 1 <= len(stops) <= MAX_STOPS:
        raise _invalid("stop", f"'stop' must have 1 to {MAX_STOPS} items.")
    for text in stops:
        if not text:
            raise _invalid("stop", "'stop' must not have an empty string.")
        if len(text) > MAX_STOP_BYTES or len(text.encode()) > MAX_STOP_BYTES:
            raise _invalid("stop", f"Each string of 'stop' must have at most {MAX_STOP_BYTES} bytes.")


def _check_logit_bias(biases: dict[str, Any]) -> None:
    if len(biases) > MAX_BIASES:
        raise _invalid("logit_bias", f"'logit_bias' must have at most {MAX_BIASES} entries.")
    for token in biases:
        if not (token.isascii() and token.isdigit()):
            raise _invalid("logit_bias", f"The keys of 'logit_bias' must be token ids, not {quoted(token)}.")


def _check_tools(request: ChatRequest) -> None:
    tools, choice = request.tools, request.tool_choice
    if tools is None:
        if choice is not None:
            raise _invalid("tool_choice", "'tool_choice' is allowed only with 'tools'.")
        return
    _check_count("tools", len(tools))
    kinds: dict[str, str] = {}
    for index, tool in enumerate(tools):
        kind, name = _check_tool(f"tools[{index}]", tool)
        if name in kinds:
            param = f"tools[{index}].{kind}.name"
            raise _invalid(param, f"'{param}' is given twice: {quoted(name)}.")
        kinds[name] = kind
    if choice is not None:
        _check_tool_choice(choice, kinds)


def _check_count(name: str, count: int) -> None:
    if not count:
        raise InvalidRequest("empty_array", f"'{name}' must have at least 1 item.", name)
    if count > MAX_TOOLS:
        raise _invalid(name, f"'{name}' must have at most {MAX_TOOLS} items.")


def _check_tool(path: str, tool: Tool) -> tuple[str, str]:
    """The kind and name of a tool whose schema is within bounds."""
    if isinstance(tool, CustomTool):
        if tool.custom.format is not None:
            _check_parameters(f"{path}.custom.format", tool.custom.format)
        return "custom", tool.custom.name
    if tool.function.parameters is not None:
        _check_parameters(f"{path}.function.parameters", tool.function.parameters)
    return "function", tool.function.name


def _check_parameters(param: str, schema: dict[str, Any]) -> None:
    if found := bounds_fault(schema):
        raise InvalidRequest("invalid_function_parameters", f"'{param}' {found}.", param)


def _check_tool_choice(choice: str | ToolChoice, kinds: dict[str, str]) -> None:
    if isinstance(choice, str):
        if choice not in {"none", "auto", "required"}:
            raise _invalid("tool_choice", f"'tool_choice' must be none, auto, required or name a tool, not {quoted(choice)}.")
        return
    for chosen in choice.allowed_tools.tools if isinstance(choice, AllowedToolsChoice) else [choice]:
        kind, name = ("custom", chosen.custom.name) if isinstance(chosen, CustomChoice) else ("function", chosen.function.name)
        if kinds.get(name) != kind:
            raise _invalid("tool_choice", f"'tool_choice' names {quoted(name)}, which is not one of 'tools'.")


def _check_functions(request: ChatRequest) -> None:
    """The deprecated pair `functions` and `function_call`, under the rules of `tools` and `tool_choice`."""
    functions, choice = request.functions, request.function_call
    if functions is None:
        if choice is not None:
            raise _invalid("function_call", "'function_call' is allowed only with 'functions'.")
        return
    if request.tools is not None:
        message = "'functions' is the older name of 'tools': send one of them."
        raise InvalidRequest("conflicting_parameters", message, "functions")
    _check_count("functions", len(functions))
    given = _check_definitions(functions)
    if isinstance(choice, str):
        if choice not in {"none", "auto"}:
            raise _invalid("function_call", f"'function_call' must be none, auto or name a function, not {quoted(choice)}.")
    elif choice is not None and choice.name not in given:
        raise _invalid("function_call", f"'function_call' names {quoted(choice.name)}, which is not one of 'functions'.")


def _check_definitions(functions: list[FunctionDefinition]) -> set[str]:
    given: set[str] = set()
    for index, function in enumerate(functions):
        if function.name in given:
            param = f"functions[{index}].name"
            raise _invalid(param, f"'{param}' is given twice: {quoted(function.name)}.")
        given.add(function.name)
        if function.parameters is not None:
            _check_parameters(f"functions[{index}].parameters", function.parameters)
    return given


def _check_response_format(response_format: JsonSchemaFormat) -> None:
    param = "response_format.json_schema.schema"
    schema = response_format.json_schema.schema
    if schema is None:
        raise _invalid(param, f"'{param}' is required.")
    if found := bounds_fault(schema):
        code = "json_too_deep" if found == TOO_DEEP else "invalid_value"
        raise InvalidRequest(code, f"'{param}' {found}.", param)
    if response_format.json_schema.strict and (found := strict_fault(schema)):
        raise _invalid(param, f"'{param}' {found}.")
