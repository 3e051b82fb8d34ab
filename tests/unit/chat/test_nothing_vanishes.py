"""No field of a request vanishes: in each dialect and both modes it is sent, named as an adaptation, or refused.

The table has a row for every field of every type that a request is made of, so a new field fails here until it is decided.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from chat.adapt import adapt
from chat.content.media import pdf, reference, stored
from chat.decode import decode
from chat.errors import UnsupportedParameter
from chat.providers.base import Asked
from chat.providers.registry import ADAPTERS
from chat.schema.content import Content, KeptState
from chat.schema.request import ChatRequest, FilePart
from tests.unit.chat.values import EVERYTHING, PROVIDER, TENANT, model, target

DIALECTS = ("openai", "anthropic", "gemini")


class Sent(msgspec.Struct, frozen=True):
    """It stands in the address or the body of the call, so written."""

    text: str


class Named(msgspec.Struct, frozen=True):
    change: str


class Refused(msgspec.Struct, frozen=True):
    param: str


class Usual(msgspec.Struct, frozen=True):
    """It asks for what happens there, or here on the way back, in any case: nothing changes by it."""

    why: str


Fate = Sent | Named | Refused | Usual
Row = tuple[dict[str, Any], Fate, Fate, Fate]

PDF = "JVBERi0xLjc="
CUSTOM = {"tools": [{"type": "custom", "custom": {"name": "free", "description": "Any.", "format": {"type": "text"}}}]}
FUNCTION = {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {"city": {}}}}
TOOLS = {"tools": [{"type": "function", "function": FUNCTION}]}
USUAL_STRICT = Usual("structured output is always strict there")
USUAL_USAGE = Usual("usage comes in every stream")


def said(*parts: dict[str, Any], role: str = "user", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(parts)} | fields, {"role": "user", "content": "Go on."}]}


def text(**fields: Any) -> dict[str, Any]:
    return said({"type": "text", "text": "Canary"} | fields)


def image(**fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": "data:image/png;base64,Q0FO"} | fields}


def audio() -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": "Q0FO", "format": "wav"}}


def file(**fields: Any) -> dict[str, Any]:
    return {"type": "file", "file": fields}


def answered(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "assistant"} | fields, {"role": "user", "content": "Go on."}]}


def called(content: Any = "Sunny") -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"city":"Rome"}'}}
    result = {"role": "tool", "tool_call_id": "call_1", "content": content}
    return TOOLS | {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [call]}, result]}


def called_custom() -> dict[str, Any]:
    return answered(tool_calls=[{"id": "c", "type": "custom", "custom": {"name": "free", "input": "anything"}}])


def tool(**fields: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": FUNCTION | fields}]}


def schema(**fields: Any) -> dict[str, Any]:
    wanted = {"name": "answer", "schema": {"type": "object", "properties": {"city": {"type": "string"}}}} | fields
    return {"response_format": {"type": "json_schema", "json_schema": wanted}}


def everywhere(fields: dict[str, Any], sent: str) -> Row:
    return fields, Sent(sent), Sent(sent), Sent(sent)


def alike(fields: dict[str, Any], fate: Fate) -> Row:
    return fields, fate, fate, fate


def openai_only(fields: dict[str, Any], sent: str, param: str) -> Row:
    return fields, Sent(sent), Refused(param), Refused(param)


MARK = {"type": "ephemeral"}
MARKED = '"cache_control":{"type":"ephemeral"}'
UNMARKED = Named("dropped=cache_control")
NO_NAME = Named("dropped=messages.name")
ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "look"}}]},
}
CHOSEN = {"type": "function", "function": {"name": "look"}}
STRICT_SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}

ROWS: dict[str, Row] = {
    "ChatRequest.model": everywhere({}, "upstream-model"),
    "ChatRequest.messages": everywhere({}, "Hello"),
    "ChatRequest.temperature": everywhere({"temperature": 0.25}, '"temperature":0.25'),
    "ChatRequest.top_p": ({"top_p": 0.25}, Sent('"top_p":0.25'), Sent('"top_p":0.25'), Sent('"topP":0.25')),
    "ChatRequest.top_k": ({"top_k": 7}, Named("dropped=top_k"), Sent('"top_k":7'), Sent('"topK":7')),
    "ChatRequest.presence_penalty": (
        *({"presence_penalty": 0.25}, Sent('"presence_penalty":0.25'), Named("dropped=presence_penalty")),
        Sent('"presencePenalty":0.25'),
    ),
    "ChatRequest.frequency_penalty": (
        *({"frequency_penalty": 0.25}, Sent('"frequency_penalty":0.25'), Named("dropped=frequency_penalty")),
        Sent('"frequencyPenalty":0.25'),
    ),
    "ChatRequest.max_tokens": (
        *({"max_tokens": 77}, Sent('"max_tokens":77'), Sent('"max_tokens":77'), Sent('"maxOutputTokens":77')),
    ),
    "ChatRequest.max_completion_tokens": (
        *({"max_completion_tokens": 77}, Sent('"max_tokens":77'), Sent('"max_tokens":77'), Sent('"maxOutputTokens":77')),
    ),
    "ChatRequest.n": ({"n": 2}, Sent('"n":2'), Refused("n"), Sent('"candidateCount":2')),
    "ChatRequest.stop": (
        *({"stop": ["END"]}, Sent('"stop":["END"]'), Sent('"stop_sequences":["END"]'), Sent('"stopSequences":["END"]')),
    ),
    "ChatRequest.seed": ({"seed": 47}, Sent('"seed":47'), Named("dropped=seed"), Sent('"seed":47')),
    "ChatRequest.stream": ({"stream": True}, Sent('"stream":true'), Sent('"stream":true'), Sent(":streamGenerateContent")),
    "ChatRequest.stream_options": (
        *({"stream": True, "stream_options": {"include_usage": True}}, Sent('"include_usage":true'), USUAL_USAGE, USUAL_USAGE),
    ),
    "ChatRequest.tools": everywhere(TOOLS, '"look"'),
    "ChatRequest.tool_choice": (
        *(TOOLS | {"tool_choice": "required"}, Sent('"tool_choice":"required"'), Sent('"type":"any"'), Sent('"mode":"ANY"')),
    ),
    "ChatRequest.parallel_tool_calls": (
        *(TOOLS | {"parallel_tool_calls": False}, Sent('"parallel_tool_calls":false')),
        *(Sent('"disable_parallel_tool_use":true'), Usual("the answer is cut to its first call")),
    ),
    "ChatRequest.functions": openai_only({"functions": [FUNCTION]}, '"functions":[{"name":"look"', "functions"),
    "ChatRequest.function_call": openai_only(
        {"functions": [FUNCTION], "function_call": {"name": "look"}}, '"function_call":{"name":"look"}', "functions"
    ),
    "ChatRequest.response_format": (
        *({"response_format": {"type": "json_object"}}, Sent('"response_format":{"type":"json_object"}')),
        *(Named("response_format=instruction"), Sent('"responseMimeType":"application/json"')),
    ),
    "ChatRequest.logprobs": (
        *({"logprobs": True}, Sent('"logprobs":true'), Named("dropped=logprobs"), Sent('"responseLogprobs":true')),
    ),
    "ChatRequest.top_logprobs": (
        *({"logprobs": True, "top_logprobs": 3}, Sent('"top_logprobs":3'), Named("dropped=top_logprobs"), Sent('"logprobs":3')),
    ),
    "ChatRequest.logit_bias": (
        *({"logit_bias": {"7": 5}}, Sent('"logit_bias":{"7":5}'), Named("dropped=logit_bias"), Named("dropped=logit_bias")),
    ),
    "ChatRequest.user": ({"user": "ann"}, Sent(TENANT.tag("ann")), Sent(TENANT.tag("ann")), Named("dropped=user")),
    "ChatRequest.safety_identifier": (
        *({"safety_identifier": "ann"}, Sent(TENANT.tag("ann")), Sent(TENANT.tag("ann"))),
        Named("dropped=safety_identifier"),
    ),
    "ChatRequest.prompt_cache_key": (
        *({"prompt_cache_key": "ann"}, Sent(TENANT.tag("ann"))),
        *(Named("dropped=prompt_cache_key"), Named("dropped=prompt_cache_key")),
    ),
    "ChatRequest.metadata": (
        *({"metadata": {"a": "b"}}, Named("dropped=metadata"), Named("dropped=metadata"), Named("dropped=metadata")),
    ),
    "ChatRequest.reasoning_effort": (
        *({"reasoning_effort": "high"}, Sent('"reasoning_effort":"high"'), Sent('"effort":"high"')),
        Sent('"thinkingLevel":"HIGH"'),
    ),
    "ChatRequest.verbosity": (
        *({"verbosity": "low"}, Sent('"verbosity":"low"'), Named("dropped=verbosity"), Named("dropped=verbosity")),
    ),
    "ChatRequest.modalities": (
        *({"modalities": ["text"]}, Sent('"modalities":["text"]'), Usual("it answers in text"), Usual("it answers in text")),
    ),
    "CacheControl.type": (text(cache_control=MARK), UNMARKED, Sent(MARKED), UNMARKED),
    "CacheControl.ttl": (
        *(text(cache_control=MARK | {"ttl": "1h"}), UNMARKED, Named("clamped=cache_control.ttl:5m"), UNMARKED),
    ),
    "TextPart.text": everywhere(text(), "Canary"),
    "TextPart.cache_control": (text(cache_control=MARK), UNMARKED, Sent(MARKED), UNMARKED),
    "ImageUrl.url": everywhere(said(image()), "Q0FO"),
    "ImageUrl.detail": (
        *(said(image(detail="low")), Sent('"detail":"low"')),
        *(Named("dropped=image_url.detail"), Named("dropped=image_url.detail")),
    ),
    "ImagePart.image_url": everywhere(said(image()), "Q0FO"),
    "ImagePart.cache_control": (said(image() | {"cache_control": MARK}), UNMARKED, Sent(MARKED), UNMARKED),
    "InputAudio.data": (said(audio()), Sent('"data":"Q0FO"'), Refused("messages"), Sent('"data":"Q0FO"')),
    "InputAudio.format": (said(audio()), Sent('"format":"wav"'), Refused("messages"), Sent('"mimeType":"audio/wav"')),
    "AudioPart.input_audio": (said(audio()), Sent('"input_audio"'), Refused("messages"), Sent('"inlineData"')),
    "AudioPart.cache_control": (said(audio() | {"cache_control": MARK}), UNMARKED, Refused("messages"), UNMARKED),
    "FileSource.file_id": everywhere(said(file(file_id="f")), PDF),
    "FileSource.file_data": everywhere(said(file(file_data=PDF)), PDF),
    "FileSource.data": everywhere(said(file(data=PDF)), PDF),
    "FileSource.mime_type": everywhere(said(file(data=PDF, mime_type="application/pdf")), "application/pdf"),
    "FileSource.filename": (
        *(
            said(file(file_data=PDF, filename="a.pdf")),
            Sent('"a.pdf"'),
            Sent('"title":"a.pdf"'),
            Named("dropped=file.filename"),
        ),
    ),
    "FilePart.file": everywhere(said(file(file_data=PDF)), PDF),
    "FilePart.file_id": everywhere(said({"type": "file", "file_id": "f"}), PDF),
    "FilePart.cache_control": (said(file(data=PDF) | {"cache_control": MARK}), UNMARKED, Sent(MARKED), UNMARKED),
    "RefusalPart.refusal": everywhere(said({"type": "refusal", "refusal": "Canary"}, role="assistant"), "Canary"),
    "FunctionCall.name": everywhere(called(), '"look"'),
    "FunctionCall.arguments": everywhere(called(), "Rome"),
    "CustomCall.name": openai_only(called_custom(), '"name":"free"', "messages[0].tool_calls[0].type"),
    "CustomCall.input": openai_only(called_custom(), '"input":"anything"', "messages[0].tool_calls[0].type"),
    "ToolCall.id": everywhere(called(), '"id":"call_1"'),
    "ToolCall.type": (called(), Sent('"type":"function"'), Sent('"type":"tool_use"'), Sent('"functionCall"')),
    "ToolCall.function": everywhere(called(), '"look"'),
    "ToolCall.custom": openai_only(called_custom(), '"custom"', "messages[0].tool_calls[0].type"),
    "SystemMessage.content": everywhere(said({"type": "text", "text": "Canary"}, role="system"), "Canary"),
    "SystemMessage.name": (said({"type": "text", "text": "a"}, role="system", name="ann"), Sent('"ann"'), NO_NAME, NO_NAME),
    "DeveloperMessage.content": everywhere(said({"type": "text", "text": "Canary"}, role="developer"), "Canary"),
    "DeveloperMessage.name": (
        *(said({"type": "text", "text": "a"}, role="developer", name="ann"), Sent('"ann"'), NO_NAME, NO_NAME),
    ),
    "UserMessage.content": everywhere(text(), "Canary"),
    "UserMessage.name": (said({"type": "text", "text": "a"}, name="ann"), Sent('"ann"'), NO_NAME, NO_NAME),
    "AssistantMessage.content": everywhere(answered(content="Canary"), "Canary"),
    "AssistantMessage.name": (answered(content="a", name="ann"), Sent('"ann"'), NO_NAME, NO_NAME),
    "AssistantMessage.refusal": everywhere(answered(refusal="Canary"), "Canary"),
    "AssistantMessage.reasoning_content": alike(
        answered(content="a", reasoning_content="Canary"), Named("dropped=messages.reasoning_content")
    ),
    "AssistantMessage.tool_calls": everywhere(called(), "Rome"),
    "AssistantMessage.function_call": openai_only(
        answered(function_call={"name": "look", "arguments": "{}"}), '"function_call":{"name":"look"', "messages[0]"
    ),
    "ToolMessage.content": everywhere(called(), "Sunny"),
    "ToolMessage.tool_call_id": (
        *(called(), Sent('"tool_call_id":"call_1"'), Sent('"tool_use_id":"call_1"'), Sent('"functionResponse":{"id":"call_1"')),
    ),
    "FunctionMessage.content": openai_only(
        {"messages": [{"role": "function", "content": "Canary", "name": "f"}]}, "Canary", "messages[0]"
    ),
    "FunctionMessage.name": openai_only(
        {"messages": [{"role": "function", "content": "a", "name": "old"}]}, '"old"', "messages[0]"
    ),
    "FunctionDefinition.name": everywhere(TOOLS, '"name":"look"'),
    "FunctionDefinition.description": everywhere(TOOLS, '"description":"Looks."'),
    "FunctionDefinition.parameters": everywhere(TOOLS, '"city"'),
    "FunctionDefinition.strict": (
        *(tool(strict=True), Sent('"strict":true'), Named("dropped=tools.strict"), Named("dropped=tools.strict")),
    ),
    "CustomDefinition.name": openai_only(CUSTOM, '"name":"free"', "tools[0].type"),
    "CustomDefinition.description": openai_only(CUSTOM, '"Any."', "tools[0].type"),
    "CustomDefinition.format": openai_only(CUSTOM, '"format":{"type":"text"}', "tools[0].type"),
    "FunctionTool.function": everywhere(TOOLS, '"name":"look"'),
    "FunctionTool.cache_control": (
        *({"tools": [{"type": "function", "function": FUNCTION, "cache_control": MARK}]}, UNMARKED, Sent(MARKED), UNMARKED),
    ),
    "CustomTool.custom": openai_only(CUSTOM, '"custom"', "tools[0].type"),
    "NamedFunction.name": (
        *(TOOLS | {"tool_choice": CHOSEN}, Sent('"tool_choice":{"type":"function","function":{"name":"look"}}')),
        *(Sent('"tool_choice":{"type":"tool","name":"look"}'), Sent('"allowedFunctionNames":["look"]')),
    ),
    "FunctionChoice.function": (
        *(TOOLS | {"tool_choice": CHOSEN}, Sent('"tool_choice":{"type":"function"')),
        *(Sent('"tool_choice":{"type":"tool"'), Sent('"mode":"ANY"')),
    ),
    "CustomChoice.custom": openai_only(
        CUSTOM | {"tool_choice": {"type": "custom", "custom": {"name": "free"}}},
        '"tool_choice":{"type":"custom"',
        "tools[0].type",
    ),
    "AllowedTools.mode": (
        *(TOOLS | {"tool_choice": ALLOWED}, Sent('"mode":"required"'), Sent('"type":"any"'), Sent('"mode":"ANY"')),
    ),
    "AllowedTools.tools": (
        *(TOOLS | {"tool_choice": ALLOWED}, Sent('"tools":[{"type":"function","function":{"name":"look"}}]')),
        *(Sent('"tools":[{"name":"look"'), Sent('"allowedFunctionNames":["look"]')),
    ),
    "AllowedToolsChoice.allowed_tools": (
        *(TOOLS | {"tool_choice": ALLOWED}, Sent('"allowed_tools"'), Sent('"type":"any"'), Sent('"allowedFunctionNames"')),
    ),
    "JsonSchema.name": (schema(), Sent('"name":"answer"'), Sent('"title":"answer"'), Sent('"title":"answer"')),
    "JsonSchema.description": everywhere(schema(description="Canary"), "Canary"),
    "JsonSchema.schema": everywhere(schema(), '"city"'),
    "JsonSchema.strict": (schema(strict=True, schema=STRICT_SCHEMA), Sent('"strict":true'), USUAL_STRICT, USUAL_STRICT),
    "JsonSchemaFormat.json_schema": everywhere(schema(), '"city"'),
    "StreamOptions.include_usage": (
        *({"stream": True, "stream_options": {"include_usage": True}}, Sent('"include_usage":true'), USUAL_USAGE, USUAL_USAGE),
    ),
    "StreamOptions.include_obfuscation": alike(
        {"stream": True, "stream_options": {"include_obfuscation": True}}, Named("dropped=stream_options.include_obfuscation")
    ),
}

SPECIAL: list[tuple[str, tuple[str, ...], dict[str, Any], Fate]] = [
    ("openai", (), called([{"type": "text", "text": "a"}, image()]), Named("tool_image=user_message")),
    ("gemini", ("thinking_budget",), called([image()]), Named("tool_image=user_message")),
    ("anthropic", (), called([image()]), Sent('"content":[{"type":"image"')),
    ("gemini", (), called([image()]), Sent('"parts":[{"inlineData"')),
    ("openai", ("single_choice",), {"n": 2}, Refused("n")),
    ("gemini", ("strict_tools",), tool(strict=True), Named("dropped=tools.strict")),
    ("anthropic", ("strict_tools",), tool(strict=True), Sent('"strict":true')),
    ("gemini", (), {"seed": 2**31}, Named("clamped=seed:-2147483648")),
    ("gemini", (), {"seed": -(2**63)}, Named("clamped=seed:0")),
    ("gemini", (), {"seed": 2**31 - 1}, Sent('"seed":2147483647')),
    ("anthropic", (), {"user": "ann", "safety_identifier": "bob"}, Named("dropped=safety_identifier")),
    ("anthropic", (), {"stop": [" ", "END"]}, Named("dropped=stop:blank")),
    ("anthropic", (), {"parallel_tool_calls": False}, Named("dropped=parallel_tool_calls")),
    ("anthropic", (), TOOLS | {"tool_choice": "none"}, Sent('"tool_choice":{"type":"none"}')),
    ("anthropic", (), TOOLS | {"tool_choice": "none"}, Sent('"tools":[{"name":"look"')),
    ("anthropic", (), said({"type": "text", "text": " ", "cache_control": MARK}), Named("dropped=messages.content:blank")),
    ("anthropic", (), called("\n"), Named("dropped=messages.content:blank")),
    ("anthropic", (), TOOLS | {"tool_choice": "required", "reasoning_effort": "none"}, Sent('"thinking":{"type":"disabled"}')),
    ("anthropic", (), TOOLS | {"tool_choice": "required", "reasoning_effort": "high"}, Sent('"effort":"high"')),
    *[
        ("anthropic", ("thinking_budget",), fields | {"reasoning_effort": "low"}, Named("dropped=reasoning_effort"))
        for fields in (
            {"max_tokens": 2047},
            TOOLS | {"tool_choice": "required", "max_tokens": 4096},
            TOOLS | {"tool_choice": CHOSEN, "max_tokens": 4096},
            TOOLS | {"tool_choice": ALLOWED, "max_tokens": 4096},
            called() | {"max_tokens": 4096},
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "So"}], "max_tokens": 4096},
        )
    ],
    ("anthropic", ("thinking_budget",), {"reasoning_effort": "low", "max_tokens": 2048}, Sent('"budget_tokens":1024')),
    ("gemini", (), schema(description="Canary", schema={"description": "Own"}), Sent('"description":"Canary\\n\\nOwn"')),
    ("anthropic", (), schema(description="Canary", schema={"description": "Own"}), Sent("Canary\\n\\nOwn")),
]


def fields_of(kind: inspect.Type) -> set[str]:
    if isinstance(kind, inspect.StructType):
        name = kind.cls.__name__
        return {f"{name}.{one.name}" for one in kind.fields}.union(*[fields_of(one.type) for one in kind.fields])
    inner = (
        [kind.type]
        if isinstance(kind, inspect.Metadata)
        else getattr(kind, "types", None) or [getattr(kind, "item_type", None)]
    )
    return set().union(*[fields_of(one) for one in inner if one is not None])


def sent_to(dialect: str, quirks: tuple[str, ...], fields: dict[str, Any], content: Content | None = None) -> tuple[str, tuple]:
    """The call that goes out, as text, and what was changed for it."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]} | fields
    asked = decode(json.dumps(body).encode(), is_strict=False).chat
    provider = msgspec.structs.replace(PROVIDER, dialect=dialect)
    aimed = msgspec.structs.replace(target(*quirks), provider=provider)
    one = model(capabilities=EVERYTHING | {"pdf", "audio_input"})
    adapted = adapt(asked, content or Content(0, parts=shaped(asked)), one, aimed)
    call = ADAPTERS[provider.dialect].build(Asked(adapted.request, one, aimed, TENANT))
    return call.url + call.body.decode(), adapted.changes


def shaped_file(part: FilePart, param: str) -> FilePart:
    """What goes out of a file; all stored ones are the same here."""
    inline = (
        part
        if reference(part, param) is None
        else msgspec.structs.replace(stored(base64.b64decode(PDF), "stored.pdf"), cache_control=part.cache_control)
    )
    assert isinstance(inline, FilePart)
    return pdf(inline, param)[1]


def shaped(asked: ChatRequest) -> dict[tuple[int, int], Any]:
    return {
        (index, place): shaped_file(part, f"messages[{index}].content[{place}]")
        for index, message in enumerate(asked.messages)
        if isinstance(message.content, list)
        for place, part in enumerate(message.content)
        if isinstance(part, FilePart)
    }


def assert_fate(dialect: str, quirks: tuple[str, ...], fields: dict[str, Any], fate: Fate) -> None:
    if isinstance(fate, Refused):
        with pytest.raises(UnsupportedParameter) as refusal:
            sent_to(dialect, quirks, fields)
        assert refusal.value.param == fate.param
        return
    call, changes = sent_to(dialect, quirks, fields)
    if isinstance(fate, Named):
        assert fate.change in changes
        return
    assert changes == ()
    if isinstance(fate, Sent):
        assert fate.text in call


def test_every_field_of_a_request_has_its_row():
    assert set(ROWS) == fields_of(inspect.type_info(ChatRequest))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("field", ROWS)
def test_no_field_vanishes(field, dialect, stream):
    fields, *fates = ROWS[field]
    assert_fate(dialect, (), ({"stream": True} if stream else {}) | fields, fates[DIALECTS.index(dialect)])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("dialect", "quirks", "fields", "fate"), SPECIAL)
def test_nothing_vanishes_where_fields_meet(dialect, quirks, fields, fate, stream):
    assert_fate(dialect, quirks, ({"stream": True} if stream else {}) | fields, fate)


def test_thinking_that_is_known_is_gone_on_with_by_its_own_model_only():
    fields = called() | {"reasoning_effort": "low", "max_tokens": 4096}
    own = Content(0, states={"call_1": KeptState("anthropic/upstream-model", b"[]")})
    assert sent_to("anthropic", ("thinking_budget",), fields, own)[1] == ()
    other = Content(0, states={"call_1": KeptState("anthropic/other-model", b"[]")})
    assert sent_to("anthropic", ("thinking_budget",), fields, other)[1] == ("dropped=reasoning_effort",)


def test_a_file_that_had_no_name_loses_none():
    assert sent_to("gemini", (), said(file(file_data=PDF)))[1] == ()
