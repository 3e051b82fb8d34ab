from __future__ import annotations

import json

import msgspec
import pytest

from chat.decode import decode
from chat.schema.request import AssistantMessage, ChatRequest, ImagePart, TextPart, ToolMessage, UserMessage
from infery_site.errors import ApiError
from tests.unit.chat.rows import BAD_REQUESTS
from tests.unit.chat.rows.bodies import HELLO, body, calling, nested, raw, said, schema_format, tool


@pytest.mark.parametrize(("sent", "code", "param"), [pytest.param(*row, id=name) for name, *row in BAD_REQUESTS])
def test_a_bad_request_is_answered_by_its_row(sent, code, param):
    with pytest.raises(ApiError) as caught:
        decode(sent, is_strict=False)
    error = caught.value
    assert (error.status, error.type, error.code, error.param) == (400, "invalid_request_error", code, param)
    assert error.message.endswith(".")
    assert len(error.message) < 250


@pytest.mark.parametrize(
    ("sent", "place"),
    [
        pytest.param(b'{"model":"m",}', "(line 1, column 14)", id="row-37-trailing-comma"),
        pytest.param('{"model":"é",\n  "é" 1}'.encode(), "(line 2, column 7)", id="row-37-columns-are-characters"),
        pytest.param(b'{\n"model":\n', "(line 3, column 1)", id="row-37-cut"),
    ],
)
def test_a_fault_of_syntax_has_line_and_column(sent, place):
    with pytest.raises(ApiError) as caught:
        decode(sent, is_strict=False)
    assert place in caught.value.message


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (body(temperature=2.1), "'temperature' must be at most 2."),
        (body(n=1.5), "'n' must be an integer, not a decimal number."),
        (body(model=None), "'model' is required."),
        (body(verbosity="v" * 65), f"must be one of low, medium, high, not '{'v' * 64}…'."),
        (body(metadata={"a": 1}), "A value in 'metadata' must be a string."),
        (said({"role": "x' - at `$.n`", "content": ""}), "not 'x' - at `$.n`'."),
        (
            body(tools=[tool(name="n" * 65)]),
            "'tools[0].function.name' must be 1 to 64 letters, digits, hyphens or underscores.",
        ),
    ],
)
def test_a_message_names_the_field_and_the_limit_and_little_of_the_input(sent, message):
    with pytest.raises(ApiError) as caught:
        decode(sent, is_strict=False)
    assert message in caught.value.message
    assert len(caught.value.message) < 200


def accepted(sent, **options):
    return decode(sent, is_strict=options.get("is_strict", False))


def test_a_whole_request_comes_out_as_it_went_in():
    fields = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "In English."}], "name": "dev"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "\0"}, {"type": "image_url", "image_url": {"url": "data:,"}}],
            },
            calling({"name": "look", "arguments": "{}"}),
            {"role": "tool", "content": "seen", "tool_call_id": "call_1"},
            {"role": "function", "content": None, "name": "old"},
            {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
        ],
        "temperature": 1.5,
        "top_p": 0.5,
        "top_k": 40,
        "max_tokens": 5,
        "max_completion_tokens": 5,
        "n": 2,
        "stop": ["a", "b"],
        "seed": -(2**63),
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [tool(parameters=nested(32), strict=True), {"type": "custom", "custom": {"name": "free"}}],
        "tool_choice": {"type": "custom", "custom": {"name": "free"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "#/$defs/a"}}},
        "logprobs": True,
        "top_logprobs": 20,
        "logit_bias": {"50256": -100, "7": 0.5},
        "user": "u",
        "metadata": {"k" * 64: "v" * 512},
        "reasoning_effort": "xhigh",
        "modalities": ["text"],
    }
    decoded = accepted(body(**fields), is_strict=True)
    assert decoded.ignored == ()
    assert json.loads(msgspec.json.encode(decoded.chat)) == {"model": "m", **fields}


def test_null_means_absent():
    fields = dict.fromkeys((*ChatRequest.__struct_fields__[2:], "audio", "web_search_options", "store", "made_up"))
    assert accepted(body(**fields), is_strict=True) == accepted(body(), is_strict=True)


def test_null_means_absent_inside_messages_and_tools():
    messages = [{**HELLO, "name": None}, {"role": "assistant", "content": "a", "refusal": None, "tool_calls": None}]
    sent = body(messages=messages, tools=[tool(description=None, parameters=None, strict=None)])
    assert accepted(sent) == accepted(body(messages=[HELLO, {"role": "assistant", "content": "a"}], tools=[tool()]))


@pytest.mark.parametrize(
    "name", ["made_up", "__proto__", "constructor", "k" * 10_240], ids=["46", "48-proto", "48-constructor", "48-10-kb"]
)
def test_an_unknown_field_is_ignored_and_listed(name):
    decoded = accepted(body(**{name: {"a": [1]}}, n=2))
    assert decoded.chat == accepted(body(n=2)).chat
    assert decoded.ignored == (name if len(name) < 65 else name[:64] + "…",)


@pytest.mark.parametrize(
    "name", ["made_up", "__proto__", "k" * 10_240], ids=["row-46-strict", "row-48-strict", "row-48-10-kb-strict"]
)
def test_an_unknown_field_is_refused_when_strict(name):
    with pytest.raises(ApiError) as caught:
        accepted(body(**{name: 1}), is_strict=True)
    assert (caught.value.status, caught.value.code) == (400, "unknown_parameter")
    assert caught.value.param == (name if len(name) < 65 else name[:64] + "…")


def test_fields_that_are_not_forwarded_are_listed_in_their_order():
    sent = body(store=True, service_tier="flex", prompt_cache_retention="24h", prediction={}, moderation={}, zeal=1)
    assert accepted(sent).ignored == ("store", "service_tier", "prompt_cache_retention", "prediction", "moderation", "zeal")
    with pytest.raises(ApiError) as caught:
        accepted(sent, is_strict=True)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "store")


def test_the_list_of_ignored_fields_is_bounded_and_fit_to_be_stored():
    decoded = accepted(body(**{f"\0{number}": 1 for number in range(1000)}))
    assert len(decoded.ignored) == 129
    assert (decoded.ignored[0], decoded.ignored[-1]) == ("?0", "872 more")


def test_the_last_of_duplicate_keys_wins():
    sent = raw('"n":7,"n":3,"x":1,"model":"other"')
    assert (accepted(sent).chat.n, accepted(sent).chat.model) == (3, "other")


def test_unknown_fields_of_a_megabyte_are_refused():
    with pytest.raises(ApiError) as caught:
        accepted(body(**{f"k{number}": "" for number in range(100_000)}))
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")


def test_a_large_body_is_read_like_a_small_one():
    long = {"role": "user", "content": "é" * 300_000}
    decoded = accepted(body(messages=[long], n=2, made_up=1))
    assert decoded.chat.messages == [UserMessage(content=long["content"])]
    assert (decoded.chat.n, decoded.ignored) == (2, ("made_up",))


def test_extra_keys_of_replayed_messages_are_accepted():
    replayed = {
        **calling({"name": "f", "arguments": ""}),
        "reasoning_content": "hm",
        "annotations": [],
        "audio": None,
        "refusal": None,
    }
    answer = {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
    decoded = accepted(said(answer, replayed), is_strict=True)
    assert [type(message) for message in decoded.chat.messages] == [AssistantMessage, ToolMessage]
    assert isinstance(decoded.chat.messages[1].content[0], ImagePart)


def test_a_tag_may_stand_last():
    sent = b'{"messages":[{"content":[{"text":"a","type":"text"}],"role":"user"}],"model":"m"}'
    assert accepted(sent).chat.messages == [UserMessage(content=[TextPart(text="a")])]


@pytest.mark.parametrize("choice", ["none", "auto", "required", {"type": "function", "function": {"name": "look"}}])
def test_a_tool_choice_of_a_given_tool_is_accepted(choice):
    assert accepted(body(tools=[tool()], tool_choice=choice)).chat.tool_choice is not None


def test_allowed_tools_that_are_given_are_accepted():
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "look"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    decoded = accepted(body(tools=[tool(), tool(name="other")], tool_choice=choice))
    assert json.loads(msgspec.json.encode(decoded.chat.tool_choice)) == choice


@pytest.mark.parametrize("choice", [None, "none", "auto", {"name": "f"}])
def test_the_deprecated_functions_are_accepted(choice):
    functions = [{"name": "f", "parameters": {"type": "object"}}, {"name": "g"}]
    assert len(accepted(body(functions=functions, function_call=choice)).chat.functions) == 2


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}, "additionalProperties": False},
        {
            "type": "object",
            "properties": {"$ref": {"type": "string"}, "list": {"type": "array", "items": {"$ref": "#/$defs/leaf"}}},
            "required": ["$ref", "list"],
            "additionalProperties": False,
            "$defs": {"leaf": {"type": "object", "additionalProperties": False}},
        },
        {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "additionalProperties": False}}},
    ],
)
def test_a_valid_strict_schema_is_accepted(schema):
    assert accepted(schema_format(strict=True, schema=schema)).chat.response_format.json_schema.schema == schema
