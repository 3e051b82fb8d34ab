"""Tools, and what is said of them (pure)."""

from __future__ import annotations

import msgspec

from chat.adapt.changes import Changes
from chat.adapt.messages import fitted_cache
from chat.schema.request import FunctionTool


def fit_tools(changes: Changes) -> None:
    tools = changes.request.tools
    if not tools:
        return
    names: list[str] = []
    fitted = [_fitted_tool(tool, changes, names) if isinstance(tool, FunctionTool) else tool for tool in tools]
    if names:
        changes.fields["tools"] = fitted
        changes.names += dict.fromkeys(names)


def _fitted_tool(tool: FunctionTool, changes: Changes, names: list[str]) -> FunctionTool:
    if tool.cache_control is not None:
        tool = msgspec.structs.replace(tool, cache_control=fitted_cache(tool.cache_control, changes.dialect, names))
    takes_strict = changes.dialect == "openai" or (changes.dialect == "anthropic" and "strict_tools" in changes.target.quirks)
    if tool.function.strict and not takes_strict:
        tool = msgspec.structs.replace(tool, function=msgspec.structs.replace(tool.function, strict=None))
        names.append("dropped=tools.strict")
    return tool
