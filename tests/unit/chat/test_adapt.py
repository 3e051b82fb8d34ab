"""What a target cannot take is changed, and every change is named."""

from __future__ import annotations

import msgspec
import pytest

from chat.adapt import JSON_TOOL, Adapted, adapt
from chat.errors import AudioNotSupported, UnsupportedParameter
from chat.schema.content import Audio, Content
from chat.schema.request import (
    AssistantMessage,
    AudioPart,
    CacheControl,
    CustomCall,
    CustomDefinition,
    CustomTool,
    FilePart,
    FileSource,
    FunctionCall,
    FunctionDefinition,
    FunctionMessage,
    FunctionTool,
    ImagePart,
    ImageUrl,
    InputAudio,
    JsonObjectFormat,
    JsonSchema,
    JsonSchemaFormat,
    SystemMessage,
    TextPart,
    ToolCall,
    UserMessage,
)
from tests.unit.chat.values import EVERYTHING, PROVIDER, model, request, target

TEXT = Content(5)
LONG_CACHED = UserMessage([TextPart("Hi", CacheControl("ephemeral", "1h"))])
WITH_FILE = UserMessage([FilePart(FileSource(file_data="data:application/pdf;base64,AAAA", filename="a.pdf"))])
THOUGHT = AssistantMessage("Four.", reasoning_content="Two and two.")
TOOL = FunctionTool(FunctionDefinition("look_up", strict=True), CacheControl("ephemeral"))
SCHEMA = JsonSchemaFormat(JsonSchema("answer", schema={"type": "object", "properties": {"city": {"type": "string"}}}))


def test_a_request_that_fits_is_passed_as_it_is():
    asked = request(temperature=1)
    adapted = adapt(asked, TEXT, model(), target())
    assert adapted.request is asked
    assert adapted.changes == ()


@pytest.mark.parametrize(
    ("fields", "quirks", "capabilities", "changes"),
    [
        ({"top_k": 5}, (), EVERYTHING, ("dropped=top_k",)),
        ({"top_k": 5}, ("top_k",), EVERYTHING, ()),
        ({"metadata": {"a": "b"}}, (), EVERYTHING, ("dropped=metadata",)),
        ({"reasoning_effort": "low"}, (), EVERYTHING - {"reasoning"}, ("dropped=reasoning_effort",)),
        ({"reasoning_effort": "low"}, (), EVERYTHING, ()),
        ({"temperature": 1.0, "top_p": 0.5}, ("no_temperature_with_top_p",), EVERYTHING, ("dropped=top_p",)),
        ({"temperature": 1.0, "logprobs": True}, ("no_sampling",), EVERYTHING, ("dropped=temperature", "dropped=logprobs")),
    ],
)
def test_what_a_target_cannot_take_is_dropped_and_named(fields, quirks, capabilities, changes):
    asked = request(**fields)
    adapted = adapt(asked, TEXT, model(capabilities=capabilities), target(*quirks))
    assert adapted.changes == changes
    for change in changes:
        name = change.partition("=")[2]
        assert getattr(adapted.request, name) is None
        assert getattr(asked, name) is not None


def test_a_schema_becomes_an_instruction_where_the_model_has_no_structured_output():
    adapted = adapt(request(response_format=SCHEMA), TEXT, model(capabilities=EVERYTHING - {"json_schema"}), target())
    assert adapted.changes == ("response_format=instruction",)
    assert isinstance(adapted.request.response_format, JsonObjectFormat)
    instruction = adapted.request.messages[0]
    assert isinstance(instruction, SystemMessage)
    assert '"city"' in instruction.content


def test_json_mode_becomes_an_instruction_where_the_model_has_none():
    plain = model(capabilities=EVERYTHING - {"json_schema", "json_mode"})
    adapted = adapt(request(response_format=JsonObjectFormat()), TEXT, plain, target())
    assert adapted.request.response_format is None
    assert adapted.changes == ("response_format=instruction",)
    assert len(adapted.request.messages) == 2


def adapted_to(dialect: str, *quirks: str, content: Content = TEXT, capabilities: frozenset = EVERYTHING, **fields) -> Adapted:
    provider = msgspec.structs.replace(PROVIDER, dialect=dialect)
    aimed = msgspec.structs.replace(target(*quirks), provider=provider)
    return adapt(request(**fields), content, model(capabilities=capabilities), aimed)


@pytest.mark.parametrize(
    ("dialect", "fields", "quirks", "changes"),
    [
        ("anthropic", {"top_k": 5}, (), ()),
        ("gemini", {"top_k": 5}, (), ()),
        ("gemini", {"presence_penalty": 1.0, "seed": 5}, ("no_penalties",), ("dropped=presence_penalty",)),
        ("gemini", {"logprobs": True}, ("no_logprobs",), ("dropped=logprobs",)),
        ("openai", {"stop": "END"}, ("no_stop",), ("dropped=stop",)),
        ("gemini", {"reasoning_effort": "none"}, (), ("clamped=reasoning_effort:low",)),
        ("gemini", {"reasoning_effort": "none"}, ("thinking_budget",), ()),
        ("gemini", {"reasoning_effort": "high"}, (), ()),
        ("anthropic", {"reasoning_effort": "minimal"}, (), ("clamped=reasoning_effort:low",)),
        ("anthropic", {"reasoning_effort": "low", "temperature": 1.5}, (), ("dropped=temperature",)),
        ("anthropic", {"reasoning_effort": "none", "temperature": 0.5}, (), ()),
        ("anthropic", {"messages": [LONG_CACHED]}, (), ("clamped=cache_control.ttl:5m",)),
        ("gemini", {"messages": [WITH_FILE]}, (), ("dropped=file.filename",)),
        ("anthropic", {"messages": [WITH_FILE]}, (), ()),
        ("gemini", {"seed": 5, "presence_penalty": 1.0, "n": 2, "logprobs": True}, (), ()),
        ("anthropic", {"seed": 5, "presence_penalty": 1.0}, (), ("dropped=seed", "dropped=presence_penalty")),
        ("anthropic", {"logprobs": True, "logit_bias": {"1": 1}}, (), ("dropped=logprobs", "dropped=logit_bias")),
        ("anthropic", {"temperature": 1.8}, (), ("clamped=temperature:1",)),
        ("anthropic", {"temperature": 1.8, "top_k": 3}, ("no_sampling",), ("dropped=temperature", "dropped=top_k")),
        ("anthropic", {"user": "a", "safety_identifier": "b"}, (), ("dropped=safety_identifier",)),
        ("anthropic", {"safety_identifier": "b"}, (), ()),
        ("anthropic", {"stop": [" ", "END"]}, (), ("dropped=stop:blank",)),
        ("gemini", {"user": "a", "verbosity": "low"}, (), ("dropped=verbosity", "dropped=user")),
        ("gemini", {"prompt_cache_key": "a", "logit_bias": {"1": 1}}, (), ("dropped=logit_bias", "dropped=prompt_cache_key")),
        ("anthropic", {"messages": [UserMessage("Hi", "ann")]}, (), ("dropped=messages.name",)),
        ("openai", {"messages": [UserMessage("Hi", "ann")]}, (), ()),
        ("openai", {"messages": [THOUGHT]}, (), ("dropped=messages.reasoning_content",)),
        ("openai", {"messages": [THOUGHT]}, ("reasoning_content",), ()),
        ("gemini", {"messages": [THOUGHT]}, ("reasoning_content",), ("dropped=messages.reasoning_content",)),
        ("openai", {"tools": [TOOL]}, (), ("dropped=cache_control",)),
        ("anthropic", {"tools": [TOOL]}, (), ("dropped=tools.strict",)),
        ("anthropic", {"tools": [TOOL]}, ("strict_tools",), ()),
        ("gemini", {"tools": [TOOL]}, (), ("dropped=cache_control", "dropped=tools.strict")),
    ],
)
def test_each_dialect_names_what_it_has_no_word_for(dialect, fields, quirks, changes):
    assert adapted_to(dialect, *quirks, **fields).changes == changes


def test_what_is_left_of_a_list_of_stops_is_sent():
    assert adapted_to("anthropic", stop=[" ", "END"]).request.stop == ["END"]
    assert adapted_to("anthropic", stop="\n").request.stop is None


def test_parts_lose_what_a_dialect_has_no_word_for():
    cached = TextPart("Hi", CacheControl("ephemeral"))
    image = ImagePart(ImageUrl("data:image/png;base64,AAAA", "high"))
    messages = [UserMessage([cached, cached, image]), UserMessage("Hello")]
    adapted = adapted_to("gemini", messages=messages)
    assert adapted.changes == ("dropped=cache_control", "dropped=image_url.detail")
    assert adapted.request.messages[0].content == [TextPart("Hi"), TextPart("Hi"), ImagePart(ImageUrl(image.image_url.url))]
    assert adapted.request.messages[1] is messages[1]
    assert messages[0].content[0] is cached
    assert adapted_to("anthropic", messages=[UserMessage([cached])]).changes == ()


def test_audio_that_no_provider_takes_as_it_came_goes_as_wav():
    audio = Content(0, audio={(0, 0): Audio("pcm16", 1, 4)}, parts={(0, 0): AudioPart(InputAudio("UklGRg==", "wav"))})
    messages = [UserMessage([AudioPart(InputAudio("AAAA", "pcm16"))])]
    adapted = adapted_to("gemini", content=audio, messages=messages)
    assert adapted.changes == ("audio=wav",)
    assert adapted.request.messages[0].content[0].input_audio == InputAudio("UklGRg==", "wav")


STORED = FilePart(FileSource(file_id="file-1", filename="a.wav"))


@pytest.mark.parametrize("dialect", ["openai", "gemini"])
@pytest.mark.parametrize(("came", "changes"), [("wav", ()), ("mp3", ()), ("webm", ("audio=wav",))])
def test_stored_audio_is_audio_and_told_of_where_it_was_converted(dialect, came, changes):
    sound = AudioPart(InputAudio("AAAA", "wav" if came == "webm" else came))
    heard = Content(0, audio={(0, 0): Audio(came, 1, 3)}, parts={(0, 0): sound})
    adapted = adapted_to(dialect, content=heard, capabilities=EVERYTHING | {"audio_input"}, messages=[UserMessage([STORED])])
    assert adapted.request.messages[0].content == [sound]
    assert adapted.changes == (*changes, "dropped=file.filename")


def test_stored_audio_is_for_models_that_hear():
    heard = Content(0, audio={(0, 0): Audio("wav", 1, 3)}, parts={(0, 0): AudioPart(InputAudio("AAAA", "wav"))})
    with pytest.raises(AudioNotSupported) as refusal:
        adapted_to("openai", content=heard, messages=[UserMessage([STORED])])
    assert (refusal.value.code, refusal.value.param) == ("audio_not_supported_by_model", "messages[0].content[0]")


def test_what_came_in_another_shape_goes_out_in_one_and_is_no_change():
    image = ImagePart(ImageUrl("data:image/png;base64,AAAA"))
    fetched = Content(0, parts={(0, 0): image})
    adapted = adapted_to("openai", content=fetched, messages=[UserMessage([ImagePart(ImageUrl("https://example.com/a.png"))])])
    assert adapted.changes == ()
    assert adapted.request.messages == [UserMessage([image])]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"functions": [FunctionDefinition("f")]}, "functions"),
        ({"tools": [CustomTool(CustomDefinition("f"))]}, "tools[0].type"),
        ({"messages": [FunctionMessage("4", "f")]}, "messages[0]"),
        ({"messages": [AssistantMessage(function_call=FunctionCall("f", "{}"))]}, "messages[0]"),
        (
            {"messages": [AssistantMessage(tool_calls=[ToolCall("c", "custom", custom=CustomCall("f", ""))])]},
            "messages[0].tool_calls[0].type",
        ),
    ],
)
def test_what_would_be_another_request_without_it_is_refused(fields, param):
    with pytest.raises(UnsupportedParameter) as refusal:
        adapted_to("anthropic", **fields)
    assert refusal.value.param == param
    assert adapted_to("openai", **fields).changes == ()


def test_several_choices_are_refused_where_a_target_gives_one():
    with pytest.raises(UnsupportedParameter):
        adapted_to("gemini", "single_choice", n=2)
    assert adapted_to("gemini", "single_choice", n=1).changes == ()


def test_a_schema_becomes_a_forced_call_where_that_is_possible():
    plain = EVERYTHING - {"json_schema"}
    adapted = adapted_to("anthropic", capabilities=plain, response_format=SCHEMA)
    assert adapted.changes == ("response_format=tool",)
    assert adapted.json_tool == JSON_TOOL
    [tool] = adapted.request.tools
    assert (tool.function.name, tool.function.parameters) == (JSON_TOOL, SCHEMA.json_schema.schema)
    assert adapted.request.tool_choice.function.name == JSON_TOOL
    assert adapted.request.parallel_tool_calls is False, "one call is one answer"
    asked = adapted_to("anthropic", capabilities=plain, response_format=SCHEMA, parallel_tool_calls=False)
    assert asked.changes == ("response_format=tool",), "what is said is not dropped"
    assert adapted.request.response_format is None


TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
NAMED = {"type": "object", "properties": {"a": {"type": "string"}}}
FREE = {
    "members": TEXTS,
    "any-members": {"type": "object", "additionalProperties": True},
    "bare": {"type": "object"},
    "no-members": {"type": "object", "properties": {}},
    "or-null": {"type": ["object", "null"]},
    "beside-named": NAMED | {"additionalProperties": {}},
    "without-a-type": {"additionalProperties": {"type": "string"}},
    "by-pattern": {"type": "object", "patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": False},
}
WRAPPED = {
    "root": lambda inner: inner,
    "property": lambda inner: {"type": "object", "properties": {"labels": inner}},
    "items": lambda inner: {"type": "array", "items": inner},
    "union": lambda inner: {"type": "object", "properties": {"meta": {"anyOf": [{"type": "null"}, inner]}}},
    "definition": lambda inner: {"$ref": "#/$defs/meta", "$defs": {"meta": inner}},
}
CLOSED = {
    "named": NAMED,
    "closed": NAMED | {"additionalProperties": False},
    "empty": {"type": "object", "properties": {}, "additionalProperties": False},
    "words-as-names": {
        "type": "object",
        "properties": {"additionalProperties": {"type": "string"}, "type": {"const": "object"}},
    },
    "literals": {"type": "object", "properties": {"a": {"const": {"type": "object"}}, "b": {"enum": [{"type": "object"}]}}},
    "union": {"type": "object", "oneOf": [NAMED, NAMED]},
    "reference": {"type": "object", "$ref": "#/$defs/a", "$defs": {"a": NAMED}},
    "none": None,
    "anything": {},
}


@pytest.mark.parametrize("place", WRAPPED)
@pytest.mark.parametrize("schema", FREE)
def test_an_object_of_any_members_is_asked_for_by_another_way_where_objects_are_closed(schema, place):
    wanted = JsonSchemaFormat(JsonSchema("answer", schema=WRAPPED[place](FREE[schema])))
    adapted = adapted_to("anthropic", response_format=wanted)
    if wanted.json_schema.schema.get("type", "object") == "object":
        assert adapted.changes == ("response_format=tool",)
        assert adapted.request.tools[0].function.parameters == wanted.json_schema.schema
    else:
        assert adapted.changes == ("response_format=instruction",), "arguments are one object"
    instructed = adapted_to("anthropic", response_format=wanted, tools=[FunctionTool(FunctionDefinition("f"))])
    assert instructed.changes == ("response_format=instruction",)
    assert instructed.request.response_format is None
    for dialect in ("openai", "gemini"):
        assert adapted_to(dialect, response_format=wanted).changes == ()


@pytest.mark.parametrize("schema", CLOSED)
def test_an_object_that_names_its_members_is_asked_for_natively(schema):
    wanted = JsonSchemaFormat(JsonSchema("answer", schema=CLOSED[schema]))
    assert adapted_to("anthropic", response_format=wanted).changes == ()


@pytest.mark.parametrize(
    "fields",
    [{"tools": [FunctionTool(FunctionDefinition("f"))]}, {"reasoning_effort": "low"}, {"reasoning_effort": "minimal"}],
    ids=["tools", "thinking", "thinking-little"],
)
def test_a_schema_becomes_an_instruction_where_a_call_cannot_be_forced(fields):
    adapted = adapted_to("anthropic", capabilities=EVERYTHING - {"json_schema"}, response_format=SCHEMA, **fields)
    assert adapted.changes[-1] == "response_format=instruction"
    assert adapted.request.response_format is None
    assert adapted.json_tool == ""


def test_json_mode_is_an_instruction_to_a_dialect_without_it():
    adapted = adapted_to("anthropic", response_format=JsonObjectFormat())
    assert adapted.changes == ("response_format=instruction",)
    assert adapted.request.response_format is None


def test_tools_and_json_at_once_are_an_instruction_where_a_model_refuses_both():
    fields = {"response_format": SCHEMA, "tools": [FunctionTool(FunctionDefinition("f"))]}
    assert adapted_to("gemini", "no_json_with_tools", **fields).changes == ("response_format=instruction",)
    assert adapted_to("gemini", **fields).changes == ()
    assert adapted_to("gemini", "no_json_with_tools", response_format=SCHEMA).changes == ()


def test_an_instruction_keeps_what_was_fitted_before():
    cached = UserMessage([TextPart("Hi", CacheControl("ephemeral"))])
    adapted = adapted_to("gemini", capabilities=EVERYTHING - {"json_schema"}, messages=[cached], response_format=SCHEMA)
    assert adapted.changes == ("dropped=cache_control", "response_format=instruction")
    assert adapted.request.messages[1].content == [TextPart("Hi")]
