"""Answers in JSON, for targets that have no word for them (pure)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from chat.adapt.changes import Changes
from chat.adapt.parameters import wants_thought
from chat.adapt.schemas import has_free_object
from chat.schema.request import (
    FunctionChoice,
    FunctionDefinition,
    FunctionTool,
    JsonObjectFormat,
    JsonSchemaFormat,
    NamedFunction,
    SystemMessage,
)

JSON_TOOL: Final = "answer_in_json"
"""The tool whose forced call is the answer of a model that has no structured output of its own."""

_JSON_INSTRUCTION = "Answer with one JSON object only: no text before or after it, and no code fences."
_SCHEMA_INSTRUCTION = _JSON_INSTRUCTION + " The object must be valid against this JSON Schema: "

_UNIONS = frozenset({"anyOf", "oneOf", "allOf"})


def fit_response_format(changes: Changes) -> None:
    wanted = changes.request.response_format
    if not isinstance(wanted, (JsonObjectFormat, JsonSchemaFormat)) or _takes(wanted, changes):
        return
    if isinstance(wanted, JsonSchemaFormat) and _may_be_forced(wanted, changes):
        changes.fields |= _forced(wanted)
        changes.names = [name for name in changes.names if name != "dropped=parallel_tool_calls"]  # it is said with the tool
        changes.json_tool = JSON_TOOL
        changes.names.append("response_format=tool")
        return
    changes.fields |= _instructed(changes, wanted)
    changes.names.append("response_format=instruction")


def _takes(wanted: JsonObjectFormat | JsonSchemaFormat, changes: Changes) -> bool:
    if changes.request.tools and "no_json_with_tools" in changes.target.quirks:
        return False
    if isinstance(wanted, JsonSchemaFormat):
        # Anthropic takes closed objects only, in which a model could not answer what an open one asks for.
        is_sayable = changes.dialect != "anthropic" or not has_free_object(wanted.json_schema.schema)
        return "json_schema" in changes.model.capabilities and is_sayable
    return "json_mode" in changes.model.capabilities and changes.dialect != "anthropic"


def _may_be_forced(wanted: JsonSchemaFormat, changes: Changes) -> bool:
    """Whether a forced call can be the answer: no tools of the client's own, and no thinking, which forbids forced calls.

    The arguments of a call are one object: an answer that is a list, or one of several schemas, cannot be them.
    """
    if changes.dialect != "anthropic" or "tools" not in changes.model.capabilities or changes.request.tools:
        return False
    schema = wanted.json_schema.schema or {}
    is_object = schema.get("type", "object") == "object" and not _UNIONS & schema.keys()
    return is_object and not wants_thought(changes.given("reasoning_effort"))


def _forced(wanted: JsonSchemaFormat) -> dict[str, Any]:
    asked = wanted.json_schema
    function = FunctionDefinition(JSON_TOOL, asked.description or "Gives the answer.", asked.schema)
    return {
        "tools": [FunctionTool(function)],
        "tool_choice": FunctionChoice(NamedFunction(JSON_TOOL)),
        "parallel_tool_calls": False,
        "response_format": None,
    }


def _instructed(changes: Changes, wanted: JsonObjectFormat | JsonSchemaFormat) -> dict[str, Any]:
    """The same wish as a system message, with JSON mode where the target has at least that."""
    instruction = _JSON_INSTRUCTION
    if isinstance(wanted, JsonSchemaFormat):
        instruction = _SCHEMA_INSTRUCTION + msgspec.json.encode(wanted.json_schema.schema).decode()
    plain = JsonObjectFormat()
    return {
        "messages": [SystemMessage(content=instruction), *changes.given("messages")],
        "response_format": plain if _takes(plain, changes) else None,
    }
