"""The body of a request in this dialect (pure).

Thinking is asked for where the client gave a `reasoning_effort`: adaptive by default, with a budget of tokens under the
quirk `thinking_budget`. It is left out with a forced tool, where the provider would refuse it: the effort stays. Where a
budget would be refused, `chat.adapt` has taken the effort away. With thinking there are no sampling parameters.
"""

from __future__ import annotations

from typing import Any

from chat.errors import UnsupportedParameter
from chat.providers.anthropic.schemas import subset
from chat.providers.anthropic.turns import Block, Conversation
from chat.providers.base import Asked
from chat.schema.request import (
    AllowedToolsChoice,
    ChatRequest,
    CustomChoice,
    CustomTool,
    FunctionChoice,
    FunctionDefinition,
    FunctionTool,
    JsonSchemaFormat,
    Tool,
)

_EFFORTS = {"minimal": "low"}
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 32_768}
"""Tokens of thinking for each effort; at most half of the limit, so that the other half is left for the answer."""

_NO_ARGUMENTS = {"type": "object", "properties": {}}


def asking_body(asked: Asked) -> dict[str, Any]:
    request, target = asked.request, asked.target
    talk = Conversation(request.messages, asked.states)
    limit = request.output_limit or asked.model.max_output_tokens
    tools, choice = _tools(request, talk)
    is_forced = choice is not None and choice["type"] in {"any", "tool"}
    thinking = _thinking(request, limit, is_forced=is_forced, has_budget="thinking_budget" in target.quirks)
    tag = asked.tenant.tag(request.safety_identifier or request.user or "")
    body: dict[str, Any] = {"model": target.upstream_model, "max_tokens": limit, "metadata": {"user_id": tag}}
    if request.stream:
        body["stream"] = True
    if talk.system:
        body["system"] = _system(talk.system)
    body["messages"] = talk.turns()
    if tools:
        body["tools"] = tools
    if choice is not None:
        body["tool_choice"] = choice
    if request.stop:
        body["stop_sequences"] = [request.stop] if isinstance(request.stop, str) else request.stop
    if thinking is not None:
        body["thinking"] = thinking
    if thinking is None or thinking["type"] == "disabled":
        body |= _sampling(request)
    if output := _output(request, has_budget="thinking_budget" in target.quirks):
        body["output_config"] = output
    return body


def _system(blocks: list[Block]) -> str | list[Block]:
    """One text, or blocks where one of them may end a cached prefix."""
    if any("cache_control" in block for block in blocks):
        return blocks
    return "\n\n".join([block["text"] for block in blocks])


def _sampling(request: ChatRequest) -> dict[str, Any]:
    given = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
    return {name: value for name, value in given.items() if value is not None}


def _thinking(request: ChatRequest, limit: int, *, is_forced: bool, has_budget: bool) -> dict[str, Any] | None:
    effort = request.reasoning_effort
    if effort is None:
        return None
    if effort == "none":
        return {"type": "disabled"}
    if is_forced:
        return None
    if not has_budget:
        # Without `display`, newer models think in silence.
        return {"type": "adaptive", "display": "summarized"}
    return {"type": "enabled", "budget_tokens": min(_BUDGETS[effort], limit // 2)}


def _output(request: ChatRequest, *, has_budget: bool) -> dict[str, Any]:
    output: dict[str, Any] = {}
    effort = request.reasoning_effort
    if effort is not None and effort != "none" and not has_budget:
        output["effort"] = _EFFORTS.get(effort, effort)
    if isinstance(request.response_format, JsonSchemaFormat):
        wanted = request.response_format.json_schema
        output["format"] = {"type": "json_schema", "schema": subset(wanted.described())}
    return output


def _tools(request: ChatRequest, talk: Conversation) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The tools and the choice among them. Whoever replays calls must offer tools: then those that were called, to none."""
    choice = request.tool_choice
    offered = request.tools or []
    if not offered:
        called = [{"name": name, "input_schema": {"type": "object"}} for name in talk.called]
        return called, ({"type": "none"} if called else None)
    if isinstance(choice, AllowedToolsChoice):
        names = {_chosen(one) for one in choice.allowed_tools.tools}
        offered = [tool for tool in offered if _function(tool).name in names]
    return [_tool(tool) for tool in offered], _choice(request)


def _choice(request: ChatRequest) -> dict[str, Any] | None:
    choice = request.tool_choice
    wire: dict[str, Any]
    if choice == "none":
        return {"type": "none"}
    if isinstance(choice, FunctionChoice | CustomChoice):
        wire = {"type": "tool", "name": _chosen(choice)}
    elif choice == "required" or (isinstance(choice, AllowedToolsChoice) and choice.allowed_tools.mode == "required"):
        wire = {"type": "any"}
    else:
        wire = {"type": "auto"}
    if request.parallel_tool_calls is False:
        wire["disable_parallel_tool_use"] = True
    elif choice is None:
        return None
    return wire


def _chosen(choice: FunctionChoice | CustomChoice) -> str:
    return choice.custom.name if isinstance(choice, CustomChoice) else choice.function.name


def _function(tool: Tool) -> FunctionDefinition:
    if isinstance(tool, CustomTool):
        raise UnsupportedParameter("tools", "This model does not take custom tools.")
    return tool.function


def _tool(tool: Tool) -> dict[str, Any]:
    function = _function(tool)
    schema = {"type": "object"} | (function.parameters or _NO_ARGUMENTS)
    wire: dict[str, Any] = {"name": function.name, "input_schema": subset(schema) if function.strict else schema}
    if function.description is not None:
        wire["description"] = function.description
    if function.strict:
        wire["strict"] = True
    if isinstance(tool, FunctionTool) and tool.cache_control is not None:
        wire["cache_control"] = tool.cache_control
    return wire
