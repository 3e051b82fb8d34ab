"""Fields inside messages and tools that nobody knows are named, whatever else the body has."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.decode import decode
from chat.decode.unknown import MAX_OBJECTS
from chat.schema.request import CacheControl
from infery_site.errors import ApiError

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "anything": 1}}}
USER: dict[str, Any] = {"role": "user", "content": "Hello"}
CALL: dict[str, Any] = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TEXT: dict[str, Any] = {"type": "text", "text": "Hello"}


def decoded(*messages, is_strict=False, **fields):
    sent = {"model": "m", "messages": list(messages) or [USER]} | fields
    return decode(json.dumps(sent).encode(), is_strict=is_strict)


@pytest.mark.parametrize(
    ("messages", "fields", "ignored"),
    [
        ([USER | {"id": "1"}, USER | {"id": "2"}], {}, "messages[].id"),
        ([{"role": "user", "content": [TEXT | {"foo": 1}]}], {}, "messages[].content[].foo"),
        (
            [{"role": "user", "content": [TEXT | {"prompt_cache_breakpoint": {}}]}],
            {},
            "messages[].content[].prompt_cache_breakpoint",
        ),
        ([USER, {"role": "assistant", "content": "Hi", "annotations": []}], {}, "messages[].annotations"),
        ([{"role": "assistant", "tool_calls": [CALL | {"index": 0}]}], {}, "messages[].tool_calls[].index"),
        ([], {"tools": [{"type": "function", "function": TOOL["function"] | {"foo": 1}}]}, "tools[].function.foo"),
        ([], {"stream": True, "stream_options": {"foo": 1}}, "stream_options.foo"),
        ([], {"response_format": {"type": "text", "foo": 1}}, "response_format.foo"),
        (
            [],
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f", "foo": 1}}},
            "tool_choice.function.foo",
        ),
    ],
)
def test_an_unknown_field_is_named_wherever_it_stands(messages, fields, ignored):
    assert decoded(*messages, **fields).ignored == (ignored,)


def test_what_is_known_is_decoded_as_without_the_unknown():
    plain = {"role": "user", "content": [TEXT | {"cache_control": {"type": "ephemeral"}}]}
    with_unknown = {"role": "user", "content": [TEXT | {"cache_control": {"type": "ephemeral", "scope": "x"}}], "id": 1}
    result = decoded(with_unknown, tools=[TOOL])
    assert result.chat == decoded(plain, tools=[TOOL]).chat
    assert result.chat.messages[0].content[0].cache_control == CacheControl("ephemeral")
    assert result.ignored == ("messages[].id", "messages[].content[].cache_control.scope")


def test_an_explicit_null_is_absent():
    assert decoded(USER | {"id": None}).ignored == ()
    assert decoded(USER | {"id": None}, is_strict=True).ignored == ()


def test_unknown_fields_of_both_kinds_are_named_together():
    assert decoded(USER | {"id": 1}, made_up=1).ignored == ("made_up", "messages[].id")


def test_strict_refuses_by_the_path():
    with pytest.raises(ApiError) as refusal:
        decoded(USER, {"role": "user", "content": [TEXT, TEXT | {"foo": 1}]}, is_strict=True)
    assert (refusal.value.status, refusal.value.code) == (400, "unknown_parameter")
    assert refusal.value.param == "messages[1].content[1].foo"


@pytest.mark.parametrize("message", [{"content": "a", "annotations": []}, {"tool_calls": [CALL | {"index": 0}]}], ids=str)
def test_strict_takes_what_a_replayed_answer_brings_along(message):
    assert decoded({"role": "assistant"} | message, is_strict=True).ignored


def test_what_is_wrong_is_still_told_beside_an_unknown_field():
    with pytest.raises(ApiError) as refusal:
        decoded({"role": "user", "content": 5, "id": 1})
    assert (refusal.value.code, refusal.value.param) == ("invalid_type", "messages[0].content")


def test_a_long_name_is_shortened():
    [name] = decoded(USER | {"n" * 10_000: 1}).ignored
    assert len(name) < 100


def test_a_body_of_countless_objects_is_not_searched():
    with pytest.raises(ApiError) as refusal:
        decoded(USER | {"x": [{}] * MAX_OBJECTS})
    assert (refusal.value.status, refusal.value.code) == (413, "request_too_large")


@given(st.lists(st.sampled_from(["a", "role", "content", "type", "text", "name", "id"]), max_size=4), st.integers(0, 3))
def test_nothing_known_is_lost(names, place):
    extra = {f"x_{name}": 1 for name in names}
    messages = [USER, {"role": "user", "content": [TEXT]}, {"role": "assistant", "tool_calls": [CALL]}, USER]
    plain = decoded(*messages).chat
    messages[place] = messages[place] | extra
    result = decoded(*messages)
    assert msgspec.json.encode(result.chat) == msgspec.json.encode(plain)
    assert set(result.ignored) == {f"messages[].{name}" for name in extra}
