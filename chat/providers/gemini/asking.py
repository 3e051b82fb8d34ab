"""The body of a generateContent request."""

from __future__ import annotations

from typing import Any

import msgspec

from chat.errors import UnsupportedParameter
from chat.providers.base import Asked
from chat.providers.gemini.schemas import fitted
from chat.providers.gemini.turns import Part, Turn, conversation, wire_name
from chat.schema.request import (
    AllowedToolsChoice,
    ChatRequest,
    CustomChoice,
    FunctionTool,
    JsonObjectFormat,
    JsonSchemaFormat,
    Tool,
    ToolChoice,
)

LEAST_BUDGET_TOKENS = 512

_JSON = "application/json"
_LEVELS = {
    "none": "LOW",
    "minimal": "LOW",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
"""The levels that every model since Gemini 3 takes; several refuse the lower MINIMAL and the higher XHIGH."""
_BUDGETS = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576, "max": 24_576}
"""Thinking tokens of an effort, as in Google's own OpenAI-compatible endpoint; the last is the most that 2.5 Flash takes."""
_MODES = {"auto": "AUTO", "required": "ANY", "none": "NONE"}


class _Instruction(msgspec.Struct, frozen=True):
    parts: list[Part]


class _Declaration(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    name: str
    description: str | None = None
    parameters_json_schema: dict[str, Any] | None = None


class _Tools(msgspec.Struct, frozen=True, rename="camel"):
    function_declarations: list[_Declaration]


class _Calling(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    mode: str
    allowed_function_names: list[str] | None = None


class _ToolConfig(msgspec.Struct, frozen=True, rename="camel"):
    function_calling_config: _Calling


class _Thinking(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    include_thoughts: bool = False
    thinking_level: str | None = None
    thinking_budget: int | None = None


class _Generation(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop_sequences: list[str] | None = None
    max_output_tokens: int | None = None
    candidate_count: int | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    response_mime_type: str | None = None
    response_json_schema: dict[str, Any] | None = None
    thinking_config: _Thinking | None = None


class Body(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    contents: list[Turn]
    system_instruction: _Instruction | None = None
    tools: list[_Tools] | None = None
    tool_config: _ToolConfig | None = None
    generation_config: _Generation | None = None


def body_of(asked: Asked) -> Body:
    request = asked.request
    turns, instruction = conversation(asked)
    generation = _generation(asked)
    return Body(
        turns,
        _Instruction(instruction) if instruction else None,
        [_Tools([_declaration(tool) for tool in request.tools])] if request.tools else None,
        None if request.tool_choice is None else _ToolConfig(_calling(request.tool_choice)),
        None if generation == _Generation() else generation,
    )


def _generation(asked: Asked) -> _Generation:
    request = asked.request
    response_format = request.response_format
    is_json = isinstance(response_format, JsonObjectFormat | JsonSchemaFormat)
    return _Generation(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        stop_sequences=[request.stop] if isinstance(request.stop, str) else request.stop,
        max_output_tokens=request.output_limit,
        candidate_count=request.n if request.choice_count > 1 else None,
        response_logprobs=request.logprobs or None,
        logprobs=request.top_logprobs or None,
        response_mime_type=_JSON if is_json else None,
        response_json_schema=fitted(response_format.json_schema.described())
        if isinstance(response_format, JsonSchemaFormat)
        else None,
        thinking_config=_thinking(asked),
    )


def _thinking(asked: Asked) -> _Thinking | None:
    """How much to think, and whether to show it. Models before Gemini 3 may be refused who are asked to show without a budget."""
    if "reasoning" not in asked.model.capabilities:
        return None
    effort = asked.request.reasoning_effort
    is_shown = effort != "none"
    if "thinking_budget" not in asked.target.quirks:
        return _Thinking(is_shown, thinking_level=None if effort is None else _LEVELS[effort])
    if effort is None:
        return None
    return _Thinking(is_shown, thinking_budget=_budget(effort, asked.request, asked.model.max_output_tokens))


def _budget(effort: str, request: ChatRequest, most_tokens: int) -> int:
    """Tokens to think with: half of the output at the most, because thinking counts as output there."""
    if effort == "none":
        return 0
    limit = most_tokens if request.output_limit is None else request.output_limit
    return max(LEAST_BUDGET_TOKENS, min(_BUDGETS[effort], limit // 2))


def _declaration(tool: Tool) -> _Declaration:
    if not isinstance(tool, FunctionTool):
        raise UnsupportedParameter("tools", "This model does not take custom tools.")
    function = tool.function
    schema = None if function.parameters is None else fitted(function.parameters)
    return _Declaration(wire_name(function.name), function.description, schema)


def _calling(choice: str | ToolChoice) -> _Calling:
    """Which functions may or must be called. Names are taken with ANY and VALIDATED only; the latter is AUTO, checked."""
    if isinstance(choice, str):
        return _Calling(_MODES[choice])
    if not isinstance(choice, AllowedToolsChoice):
        return _Calling("ANY", [_chosen(choice)])
    allowed = choice.allowed_tools
    return _Calling("ANY" if allowed.mode == "required" else "VALIDATED", [_chosen(one) for one in allowed.tools])


def _chosen(choice: ToolChoice) -> str:
    if isinstance(choice, CustomChoice | AllowedToolsChoice):
        raise UnsupportedParameter("tool_choice", "This model does not take custom tools.")
    return wire_name(choice.function.name)
