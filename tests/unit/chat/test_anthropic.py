"""The anthropic dialect where the wire suite has no case: schemas against the SDK's own rules, and whatever bytes may come."""

from __future__ import annotations

import json

import pytest
from anthropic import transform_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.pricing import Usage
from chat.errors import UnsupportedParameter, UpstreamFailure, UpstreamInvalidResponse
from chat.providers.anthropic import AnthropicAdapter
from chat.providers.anthropic.schemas import subset
from chat.schema.request import (
    AssistantMessage,
    AudioPart,
    CustomCall,
    CustomDefinition,
    CustomTool,
    FilePart,
    FileSource,
    FunctionCall,
    FunctionMessage,
    InputAudio,
    ToolCall,
    UserMessage,
)
from tests.unit.chat.values import TENANT, asked_of, request

ADAPTER = AnthropicAdapter()
ASKED = asked_of(request())

SCHEMAS = [
    {"type": "object", "properties": {"a": {"type": "string", "format": "date"}, "b": {"type": "integer"}}, "required": ["a"]},
    {"type": "object", "additionalProperties": True, "title": "T", "description": "D"},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1},
    {"oneOf": [{"type": "string"}, {"type": "null"}], "description": "either"},
    {"allOf": [{"type": "object", "properties": {}}]},
    {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"},
    {"enum": ["a", 1, None]},
    {"const": "a", "description": "D"},
    {"type": "number", "minimum": 1, "maximum": 9, "description": "D"},
    {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 2, "maxItems": 3},
    {"type": "string", "format": "color", "minLength": 1},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_a_schema_is_cut_as_the_official_sdk_cuts_it(schema):
    """Except for how keywords stand in the description: there as Python, here as JSON and in their order."""
    before = json.dumps(schema)
    ours, theirs = subset(schema), transform_schema(schema)
    assert _told(ours.pop("description", "")) == _told(theirs.pop("description", ""))
    assert ours == theirs
    assert json.dumps(schema) == before


def _told(description):
    text, _, keywords = description.partition("{")
    return text, sorted(keywords.strip("}").replace('"', "").split(", "))


@pytest.mark.parametrize(
    ("schema", "cut"),
    [
        ({"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (
            {"type": ["array", "null"], "items": {"type": "string"}, "description": "D"},
            {"description": "D", "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
        ),
        ({"$ref": "#/definitions/a"}, {"$ref": "#/$defs/a"}),
        ({"$ref": "#/$defs/a", "description": "D"}, {"description": "D", "anyOf": [{"$ref": "#/$defs/a"}]}),
        ({"definitions": {"a": {"type": "null"}}, "type": "null"}, {"$defs": {"a": {"type": "null"}}, "type": "null"}),
        ({"$schema": "x", "type": "null"}, {"type": "null"}),
        (
            {"properties": {"a": True}},
            {"type": "object", "properties": {"a": True}, "additionalProperties": False},
        ),
        (
            {"type": "object", "additionalProperties": {"type": "string"}},
            {
                "type": "object",
                "properties": {},
                "additionalProperties": False,
                "description": '{additionalProperties: {"type":"string"}}',
            },
        ),
        ({}, {}),
        (False, False),
    ],
)
def test_a_schema_that_the_sdk_does_not_know(schema, cut):
    assert subset(schema) == cut


_KEYS = st.sampled_from(
    [
        *("type", "properties", "items", "anyOf", "enum", "$ref", "$defs", "required", "description", "minItems", "format"),
        *("index", "delta", "content_block", "message", "usage", "error", "content", "text", "stop_reason", "input", "id"),
        *("name", "partial_json", "input_tokens", "output_tokens", "thinking", "signature"),
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_KEYS, _JSON, max_size=6))
def test_no_schema_breaks_the_cutter(schema):
    json.dumps(subset(schema))


_TYPES = st.sampled_from(
    [
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"),
        *("message_stop", "error", "ping", "text", "tool_use", "thinking", "text_delta", "input_json_delta"),
    ]
)
_EVENTS = st.lists(
    st.dictionaries(_KEYS, _JSON | st.fixed_dictionaries({"type": _TYPES}) | st.integers(0, 2), max_size=5).flatmap(
        lambda event: _TYPES.map(lambda kind: event | {"type": kind})
    ),
    max_size=6,
)


@pytest.mark.slow
@settings(max_examples=300)
@given(_EVENTS)
def test_whatever_events_come_there_is_an_answer_or_a_failure(events):
    stream = ADAPTER.stream(ASKED)
    try:
        for event in events:
            stream.decode("message", json.dumps(event).encode())
        stream.flush()
    except UpstreamFailure:
        return
    assert stream.is_done


@pytest.mark.slow
@settings(max_examples=300)
@given(st.dictionaries(_KEYS, _JSON, max_size=5) | _EVENTS.map(lambda events: {"content": events, "stop_reason": "end_turn"}))
def test_whatever_reply_comes_there_is_an_answer_or_a_failure(reply):
    try:
        answer = ADAPTER.reply(ASKED, json.dumps(reply).encode())
    except UpstreamFailure:
        return
    assert answer.choices[0].finish_reason


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"content":[]}', b'{"content":[],"stop_reason":null}']
)
def test_a_reply_that_breaks_the_grammar_is_refused(body):
    with pytest.raises(UpstreamInvalidResponse):
        ADAPTER.reply(ASKED, body)


@pytest.mark.parametrize("given_input", [b"[]", b"1", b'"{}"', b"null"])
def test_the_input_of_a_call_is_an_object(given_input):
    body = b'{"stop_reason":"tool_use","content":[{"type":"tool_use","id":"a","name":"f","input":%b}]}' % given_input
    with pytest.raises(UpstreamInvalidResponse):
        ADAPTER.reply(ASKED, body)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 5, "output_tokens": 2}, Usage(5, 2)),
        ({"input_tokens": -5, "output_tokens": 2}, None),
        ({"input_tokens": 5, "output_tokens": 2.5}, None),
        ({"input_tokens": True, "output_tokens": 2}, None),
        ({"input_tokens": 2**31 - 1, "cache_read_input_tokens": 1, "output_tokens": 2}, None),
        ({"input_tokens": 5, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 9}}, Usage(5, 2, 0, 0, 0, 2)),
        (
            {"input_tokens": 5, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 11, "output_tokens": 2},
            Usage(23, 2, 7, 11),
        ),
    ],
)
def test_usage_is_checked(usage, expected):
    body = json.dumps({"content": [], "stop_reason": "end_turn", "usage": usage}).encode()
    assert ADAPTER.reply(ASKED, body).usage.tokens == expected


def test_two_workspaces_are_two_users_upstream():
    body = ADAPTER.build(asked_of(request(user="ann"))).body
    other = ADAPTER.build(asked_of(request(user="ann"), tenant=type(TENANT)(b"secret", "ws_rival"))).body
    assert b"ann" not in body
    assert json.loads(body)["metadata"] != json.loads(other)["metadata"]


def test_the_request_itself_is_never_changed():
    call = ToolCall("a", "function", FunctionCall("f", "{}"))
    asked = request(messages=[UserMessage(content="x"), AssistantMessage(content="y ", tool_calls=[call])], stop="x")
    before = repr(asked)
    ADAPTER.build(asked_of(asked))
    assert repr(asked) == before


def test_a_state_that_cannot_be_read_is_no_state():
    call = ToolCall("a", "function", FunctionCall("f", "{}"))
    asked = request(messages=[AssistantMessage(tool_calls=[call])])
    body = json.loads(ADAPTER.build(asked_of(asked, a=b"not json")).body)
    assert [block["type"] for block in body["messages"][-1]["content"]] == ["tool_use"]


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [UserMessage(content=[AudioPart(InputAudio("AAAA", "wav"))])]},
        {"messages": [UserMessage(content=[FilePart(FileSource(file_id="file-1"))])]},
        {"messages": [UserMessage(content=[FilePart(FileSource(data="AAAA", mime_type="text/csv"))])]},
        {"messages": [FunctionMessage("x", "f")]},
        {"messages": [AssistantMessage(function_call=FunctionCall("f", "{}"))]},
        {"messages": [AssistantMessage(tool_calls=[ToolCall("a", "custom", custom=CustomCall("c", "x"))])]},
        {"tools": [CustomTool(CustomDefinition("c"))]},
    ],
)
def test_what_the_dialect_cannot_say_is_never_left_out_in_silence(fields):
    with pytest.raises(UnsupportedParameter):
        ADAPTER.build(asked_of(request(**fields)))
