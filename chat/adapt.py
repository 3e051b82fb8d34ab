"""What a target cannot take is changed here, and every change is named (pure).

`adapt` is used by the quote and by each attempt alike, so what is promised is what is sent. A change is a text such as
`dropped=top_k`, `response_format=instruction`; nothing is dropped without one. The request given is never altered.
"""

from __future__ import annotations

from typing import Any

import msgspec

from chat.schema.request import (
    ChatRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    SystemMessage,
)
from chat.schema.route import ModelInfo, TargetInfo

SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias")

_JSON_INSTRUCTION = "Answer with one JSON object only: no text before or after it, and no code fences."
_SCHEMA_INSTRUCTION = _JSON_INSTRUCTION + " The object must be valid against this JSON Schema: "


class Adapted(msgspec.Struct, frozen=True):
    """The request as the target gets it, and what was changed for that."""

    request: ChatRequest
    changes: tuple[str, ...]


def adapt(request: ChatRequest, model: ModelInfo, target: TargetInfo) -> Adapted:
    """Fit `request` to one target of `model`."""
    changed: dict[str, Any] = {}
    changes: list[str] = []
    for name in _unsupported(request, model, target):
        changed[name] = None
        changes.append(f"dropped={name}")
    response_format = request.response_format
    if (isinstance(response_format, JsonSchemaFormat) and "json_schema" not in model.capabilities) or (
        isinstance(response_format, JsonObjectFormat) and "json_mode" not in model.capabilities
    ):
        changed |= _instructed(request, response_format, model)
        changes.append("response_format=instruction")
    if not changes:
        return Adapted(request, ())
    return Adapted(msgspec.structs.replace(request, **changed), tuple(changes))


def _unsupported(request: ChatRequest, model: ModelInfo, target: TargetInfo) -> list[str]:
    """Parameters the target does not take, in a fixed order."""
    quirks = target.quirks
    names = []
    if request.top_k is not None and "top_k" not in quirks:
        names.append("top_k")
    if request.metadata is not None:
        names.append("metadata")
    if request.reasoning_effort is not None and "reasoning" not in model.capabilities:
        names.append("reasoning_effort")
    if "no_sampling" in quirks:
        names += [name for name in SAMPLING if getattr(request, name) is not None]
    elif "no_temperature_with_top_p" in quirks and request.temperature is not None and request.top_p is not None:
        names.append("top_p")
    return names


def _instructed(request: ChatRequest, wanted: JsonObjectFormat | JsonSchemaFormat, model: ModelInfo) -> dict[str, Any]:
    """The same wish as a system message, with JSON mode where the model has at least that."""
    instruction = _JSON_INSTRUCTION
    if isinstance(wanted, JsonSchemaFormat):
        instruction = _SCHEMA_INSTRUCTION + msgspec.json.encode(wanted.json_schema.schema).decode()
    has_json_mode = "json_mode" in model.capabilities
    return {
        "messages": [SystemMessage(content=instruction), *request.messages],
        "response_format": JsonObjectFormat() if has_json_mode else None,
    }
