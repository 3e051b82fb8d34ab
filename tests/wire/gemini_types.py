"""What google-genai says of Gemini's wire: its types, which take no field they do not know, and its own way to REST.

The SDK fills types in and turns them into a body. Here a body is read into the types, must come out of them the same by the
names they have on the wire, and must then pass the SDK's way to the Gemini API, which refuses what only Vertex AI takes.
"""

from __future__ import annotations

import json
from typing import Any

import pydantic
from google import genai
from google.genai import types
from google.genai.models import _GenerateContentParameters_to_mldev

from chat.sse import Event

_client = genai.Client(api_key="unused")
_answer = pydantic.TypeAdapter(types.GenerateContentResponse)


class Body(pydantic.BaseModel):
    """A request as REST has it; the SDK knows its parts, not the whole."""

    model_config = pydantic.ConfigDict(extra="forbid")

    contents: list[types.Content]
    systemInstruction: types.Content | None = None  # noqa: N815 - the wire's name
    tools: list[types.Tool] | None = None
    toolConfig: types.ToolConfig | None = None  # noqa: N815 - the wire's name
    generationConfig: types.GenerationConfig | None = None  # noqa: N815 - the wire's name


def check_asked(body: Any) -> None:
    read = Body.model_validate(body)
    assert _same_base64(read.model_dump(mode="json", by_alias=True, exclude_unset=True)) == _same_base64(body)
    config = types.GenerateContentConfig.model_validate(
        {
            **body.get("generationConfig", {}),
            **{name: body[name] for name in ("systemInstruction", "tools", "toolConfig") if name in body},
        }
    )
    parameters = types._GenerateContentParameters(model="gemini", contents=list(read.contents), config=config)
    sent = _GenerateContentParameters_to_mldev(_client._api_client, parameters)
    assert {name for name in sent if not name.startswith("_")} == {*body, "generationConfig"}


def check_answer(value: Any) -> object:
    return _answer.validate_json(json.dumps(value))


def ends(event: Event) -> bool:
    """A finish reason, or the word that nothing will come. Cases with several choices end them in one event."""
    try:
        answer = json.loads(event.data)
    except ValueError:
        return False
    return isinstance(answer, dict) and (
        "promptFeedback" in answer or any("finishReason" in candidate for candidate in answer.get("candidates", ()))
    )


def _same_base64(value: Any) -> Any:
    """Bytes in the one alphabet that the SDK writes; the API takes both."""
    if isinstance(value, dict):
        return {
            name: one.replace("+", "-").replace("/", "_")
            if name in {"data", "thoughtSignature"} and isinstance(one, str)
            else _same_base64(one)
            for name, one in value.items()
        }
    return [_same_base64(one) for one in value] if isinstance(value, list) else value
