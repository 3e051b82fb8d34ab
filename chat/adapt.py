"""What a target cannot take is changed here, and every change is named (pure).

`adapt` is used by the quote and by each attempt alike, so what is promised is what is sent. A change is a text such as
`dropped=top_k`, `clamped=temperature:1`, `response_format=instruction`; nothing is dropped without one. What cannot be
changed without changing what was asked is refused. The request given is never altered.

The tables say what a dialect has no word for; the quirks of a target, how a server differs from its dialect. Adapters
translate what is left, all of it.

What is said in another way is no change: identifiers leave as tags of the workspace (`user`, `safety_identifier`,
`prompt_cache_key`), ids and names of calls in the letters that a provider takes, the name of a JSON schema as its title.
Structured output is always strict where it is native, so `strict` of a schema changes nothing but at OpenAI. Neither is what
is kept here on the way back: usage in every stream, and one call at most without `parallel_tool_calls` from Gemini.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from chat.errors import UnsupportedParameter
from chat.schema.content import Content
from chat.schema.request import (
    AllowedToolsChoice,
    AssistantMessage,
    AudioPart,
    CacheControl,
    ChatRequest,
    CustomTool,
    FilePart,
    FunctionChoice,
    FunctionDefinition,
    FunctionMessage,
    FunctionTool,
    ImagePart,
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    NamedFunction,
    Part,
    RefusalPart,
    SystemMessage,
    ToolMessage,
)
from chat.schema.route import Dialect, ModelInfo, TargetInfo
from chat.thinking import LEAST_BUDGET_TOKENS, can_think, is_blank, is_blank_part

SAMPLING: Final = (
    "temperature",
    "top_p",
    "top_k",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "logit_bias",
)

JSON_TOOL: Final = "answer_in_json"
"""The tool whose forced call is the answer of a model that has no structured output of its own."""

_NO_WORD: dict[Dialect, tuple[str, ...]] = {
    "openai": ("metadata",),
    "anthropic": (
        *("metadata", "seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"),
        *("verbosity", "prompt_cache_key"),
    ),
    "gemini": ("metadata", "logit_bias", "verbosity", "prompt_cache_key", "user", "safety_identifier"),
}
"""Parameters that a dialect has no field for; they leave no trace in an answer that somebody would build on."""

_LEFT_OUT: dict[str, tuple[str, ...]] = {
    "no_sampling": SAMPLING,
    "no_penalties": ("presence_penalty", "frequency_penalty"),
    "no_logprobs": ("logprobs", "top_logprobs"),
    "no_stop": ("stop",),
}
"""Parameters that a target with this quirk refuses, although its dialect has a word for them."""

_EFFORTS: dict[Dialect, dict[str, str]] = {
    "openai": {},
    "anthropic": {"minimal": "low"},
    "gemini": {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"},
}
"""The nearest effort that the models of a dialect take, where they do not take the one that was asked for."""

_JSON_INSTRUCTION = "Answer with one JSON object only: no text before or after it, and no code fences."
_SCHEMA_INSTRUCTION = _JSON_INSTRUCTION + " The object must be valid against this JSON Schema: "

_ANTHROPIC_TEMPERATURE_MOST = 1.0
_SEEDS = 2**32


class Adapted(msgspec.Struct, frozen=True):
    """The request as the target gets it, and what was changed for that.

    `json_tool` names the tool whose call is to be read as the answer, where the request was turned into one.
    """

    request: ChatRequest
    changes: tuple[str, ...]
    json_tool: str = ""


class _Changes:
    """What one target makes of a request, gathered: fields to replace, and their names for the client."""

    def __init__(self, request: ChatRequest, model: ModelInfo, target: TargetInfo) -> None:
        self.request = request
        self.model = model
        self.target = target
        self.dialect: Dialect = target.provider.dialect
        self.fields: dict[str, Any] = {}
        self.names: list[str] = []
        self.json_tool = ""

    def drop(self, name: str) -> None:
        if getattr(self.request, name) is not None and name not in self.fields:
            self.fields[name] = None
            self.names.append(f"dropped={name}")

    def given(self, name: str) -> Any:
        """A field as it was fitted so far."""
        return self.fields[name] if name in self.fields else getattr(self.request, name)


def adapt(request: ChatRequest, content: Content, model: ModelInfo, target: TargetInfo) -> Adapted:
    """Fit `request` to one target of `model`. Raises UnsupportedParameter for what neither fits nor can be left out."""
    changes = _Changes(request, model, target)
    _refuse_choices(changes)
    if changes.dialect != "openai":
        _refuse(changes)
    _fit_parameters(changes, content)
    _fit_messages(changes, content)
    _fit_tools(changes)
    _fit_response_format(changes)
    if not changes.names and not changes.fields:
        return Adapted(request, ())
    return Adapted(msgspec.structs.replace(request, **changes.fields), tuple(changes.names), changes.json_tool)


def _refuse_choices(changes: _Changes) -> None:
    is_single = changes.dialect == "anthropic" or "single_choice" in changes.target.quirks
    if is_single and changes.request.choice_count > 1:
        name = changes.model.slug
        raise UnsupportedParameter("n", f"The model {name} gives one choice only; leave out 'n' or set it to 1.")


def _refuse(changes: _Changes) -> None:
    """What only OpenAI's own dialect can say, and what would be another request without it."""
    request, name = changes.request, changes.model.slug
    if request.functions is not None:
        raise UnsupportedParameter("functions", f"The model {name} takes 'tools', not the older 'functions'.")
    for index, tool in enumerate(request.tools or ()):
        if isinstance(tool, CustomTool):
            message = f"The model {name} does not take custom tools; describe the tool as a function."
            raise UnsupportedParameter(f"tools[{index}].type", message)
    for index, said in enumerate(request.messages):
        if isinstance(said, FunctionMessage) or getattr(said, "function_call", None) is not None:
            text = f"The model {name} takes 'tool_calls' and messages of the role 'tool', not the older function calls."
            raise UnsupportedParameter(f"messages[{index}]", text)
        for position, call in enumerate(getattr(said, "tool_calls", None) or ()):
            if call.custom is not None:
                text = f"The model {name} does not take calls of custom tools."
                raise UnsupportedParameter(f"messages[{index}].tool_calls[{position}].type", text)


def _fit_parameters(changes: _Changes, content: Content) -> None:
    request, quirks, dialect = changes.request, changes.target.quirks, changes.dialect
    if dialect == "openai" and "top_k" not in quirks:
        changes.drop("top_k")
    for name in _NO_WORD[dialect]:
        changes.drop(name)
    for quirk, names in _LEFT_OUT.items():
        for name in names if quirk in quirks else ():
            changes.drop(name)
    if "no_temperature_with_top_p" in quirks and request.temperature is not None:
        changes.drop("top_p")
    options = request.stream_options
    if options is not None and options.include_obfuscation:
        changes.fields["stream_options"] = msgspec.structs.replace(options, include_obfuscation=None)
        changes.names.append("dropped=stream_options.include_obfuscation")
    _fit_effort(changes, content)
    if dialect == "anthropic":
        _fit_to_anthropic(changes)
    elif dialect == "gemini" and request.seed is not None:
        seed = (request.seed + _SEEDS // 2) % _SEEDS - _SEEDS // 2  # 32 bits are all that fits there
        if seed != request.seed:
            changes.fields["seed"] = seed
            changes.names.append(f"clamped=seed:{seed}")


def _fit_effort(changes: _Changes, content: Content) -> None:
    effort = changes.request.reasoning_effort
    if "reasoning" not in changes.model.capabilities or (_wants_thought(effort) and not _has_room(changes, content)):
        changes.drop("reasoning_effort")
    elif effort is not None and "thinking_budget" not in changes.target.quirks:
        nearest = _EFFORTS[changes.dialect].get(effort)
        if nearest is not None:
            changes.fields["reasoning_effort"] = nearest
            changes.names.append(f"clamped=reasoning_effort:{nearest}")


def _wants_thought(effort: str | None) -> bool:
    return effort not in {None, "none"}


def _has_room(changes: _Changes, content: Content) -> bool:
    """Whether the provider would take a budget of thinking with this request, where it takes efforts as budgets."""
    request, target = changes.request, changes.target
    if changes.dialect != "anthropic" or "thinking_budget" not in target.quirks:
        return True
    limit = request.output_limit or changes.model.max_output_tokens
    if limit // 2 < LEAST_BUDGET_TOKENS or _is_call_forced(request):
        return False
    return can_think(request.messages, {call for call, state in content.states.items() if state.maker == target.maker})


def _is_call_forced(request: ChatRequest) -> bool:
    choice = request.tool_choice
    if isinstance(choice, AllowedToolsChoice):
        return choice.allowed_tools.mode == "required"
    return choice == "required" or isinstance(choice, FunctionChoice)


def _fit_to_anthropic(changes: _Changes) -> None:
    request = changes.request
    if _wants_thought(changes.given("reasoning_effort")):
        for name in ("temperature", "top_p", "top_k"):
            changes.drop(name)  # not with thinking
    temperature = request.temperature
    if temperature is not None and temperature > _ANTHROPIC_TEMPERATURE_MOST and "temperature" not in changes.fields:
        changes.fields["temperature"] = _ANTHROPIC_TEMPERATURE_MOST
        changes.names.append("clamped=temperature:1")
    if request.user is not None:
        changes.drop("safety_identifier")  # One field upstream says who the user is.
    if request.stop is not None:
        stops = [request.stop] if isinstance(request.stop, str) else request.stop
        kept = [stop for stop in stops if stop.strip()]
        if len(kept) < len(stops):
            changes.fields["stop"] = kept or None
            changes.names.append("dropped=stop:blank")
    if request.parallel_tool_calls is False and (not request.tools or request.tool_choice == "none"):
        changes.drop("parallel_tool_calls")  # It is said with the choice of a tool only.


# Messages


def _fit_messages(changes: _Changes, content: Content) -> None:
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


def _fitted(message: Message, index: int, changes: _Changes, content: Content, names: list[str]) -> Message:
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


def _moves_images(changes: _Changes) -> bool:
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
        part = msgspec.structs.replace(part, cache_control=_fitted_cache(part.cache_control, dialect, names))
    if isinstance(part, ImagePart) and part.image_url.detail not in {None, "auto"} and dialect != "openai":
        part = msgspec.structs.replace(part, image_url=msgspec.structs.replace(part.image_url, detail=None))
        names.append("dropped=image_url.detail")
    if dialect == "gemini" and isinstance(given, FilePart) and given.file is not None and given.file.filename is not None:
        names.append("dropped=file.filename")
    return part


def _fitted_cache(control: CacheControl, dialect: Dialect, names: list[str]) -> CacheControl | None:
    """Writing for an hour costs more than the price of writing says: what is written lasts five minutes."""
    if dialect != "anthropic":
        names.append("dropped=cache_control")
        return None
    if control.ttl == "1h":
        names.append("clamped=cache_control.ttl:5m")
        return CacheControl("ephemeral")
    return control


# Tools


def _fit_tools(changes: _Changes) -> None:
    tools = changes.request.tools
    if not tools:
        return
    names: list[str] = []
    fitted = [_fitted_tool(tool, changes, names) if isinstance(tool, FunctionTool) else tool for tool in tools]
    if names:
        changes.fields["tools"] = fitted
        changes.names += dict.fromkeys(names)


def _fitted_tool(tool: FunctionTool, changes: _Changes, names: list[str]) -> FunctionTool:
    if tool.cache_control is not None:
        tool = msgspec.structs.replace(tool, cache_control=_fitted_cache(tool.cache_control, changes.dialect, names))
    takes_strict = changes.dialect == "openai" or (changes.dialect == "anthropic" and "strict_tools" in changes.target.quirks)
    if tool.function.strict and not takes_strict:
        tool = msgspec.structs.replace(tool, function=msgspec.structs.replace(tool.function, strict=None))
        names.append("dropped=tools.strict")
    return tool


# Answers in JSON


def _fit_response_format(changes: _Changes) -> None:
    wanted = changes.request.response_format
    if not isinstance(wanted, (JsonObjectFormat, JsonSchemaFormat)) or _takes(wanted, changes):
        return
    if isinstance(wanted, JsonSchemaFormat) and _may_be_forced(changes):
        changes.fields |= _forced(wanted)
        changes.json_tool = JSON_TOOL
        changes.names.append("response_format=tool")
        return
    changes.fields |= _instructed(changes, wanted)
    changes.names.append("response_format=instruction")


def _takes(wanted: JsonObjectFormat | JsonSchemaFormat, changes: _Changes) -> bool:
    if changes.request.tools and "no_json_with_tools" in changes.target.quirks:
        return False
    if isinstance(wanted, JsonSchemaFormat):
        return "json_schema" in changes.model.capabilities
    return "json_mode" in changes.model.capabilities and changes.dialect != "anthropic"


def _may_be_forced(changes: _Changes) -> bool:
    """Whether a forced call can be the answer: no tools of the client's own, and no thinking, which forbids forced calls."""
    request = changes.request
    is_thinking = _wants_thought(changes.given("reasoning_effort"))
    return changes.dialect == "anthropic" and "tools" in changes.model.capabilities and not request.tools and not is_thinking


def _forced(wanted: JsonSchemaFormat) -> dict[str, Any]:
    asked = wanted.json_schema
    function = FunctionDefinition(JSON_TOOL, asked.description or "Gives the answer.", asked.schema)
    return {
        "tools": [FunctionTool(function)],
        "tool_choice": FunctionChoice(NamedFunction(JSON_TOOL)),
        "response_format": None,
    }


def _instructed(changes: _Changes, wanted: JsonObjectFormat | JsonSchemaFormat) -> dict[str, Any]:
    """The same wish as a system message, with JSON mode where the target has at least that."""
    instruction = _JSON_INSTRUCTION
    if isinstance(wanted, JsonSchemaFormat):
        instruction = _SCHEMA_INSTRUCTION + msgspec.json.encode(wanted.json_schema.schema).decode()
    plain = JsonObjectFormat()
    return {
        "messages": [SystemMessage(content=instruction), *changes.given("messages")],
        "response_format": plain if _takes(plain, changes) else None,
    }
