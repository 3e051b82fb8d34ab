"""Whatever arrives, the decoder answers with a request or with an ApiError, never with anything else."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.decode import decode
from chat.schema.request import ChatRequest, DecodedRequest, NotForwarded
from infery_site.errors import ApiError
from tests.unit.chat.rows.bodies import body, calling, said, schema_format, tool

WORDS = [
    *ChatRequest.__struct_fields__,
    *NotForwarded.__struct_fields__,
    *("role", "content", "type", "text", "image_url", "url", "detail", "input_audio", "format", "data", "file", "refusal"),
    *("tool_calls", "tool_call_id", "function", "custom", "name", "arguments", "parameters", "schema", "json_schema", "strict"),
    *("user", "system", "assistant", "tool", "json_object", "auto", "$ref", "properties", "required", "allowed_tools", "mode"),
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(alphabet=st.characters(exclude_categories=()), max_size=8),
)
NAMES = st.sampled_from(WORDS) | st.text(max_size=4)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=12
)
REQUESTS = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": st.lists(st.dictionaries(NAMES, VALUES, max_size=4) | VALUES, max_size=3)},
    optional=dict.fromkeys(WORDS[2:40], VALUES),
)
SEEDS = [
    body(temperature=1, stop=["a"], metadata={"a": "b"}, made_up=[{"a": None}]),
    said(
        {"role": "tool", "content": [{"type": "text", "text": "é😀"}], "tool_call_id": "call_1"},
        calling({"name": "f", "arguments": ""}),
    ),
    body(tools=[tool(parameters={"a": [1.5, "\ud83d\ude00"]})], tool_choice="auto", logit_bias={"1": -1}),
    schema_format(schema={"type": "object", "additionalProperties": False}, strict=True),
]


def outcome(sent, *, is_strict=False):
    try:
        return decode(sent, is_strict=is_strict)
    except ApiError as error:
        return error


def assert_sound(result):
    """A request, or a refusal that can be sent."""
    if isinstance(result, ApiError):
        assert result.status in {400, 413}
        assert json.loads(result.envelope())["error"]["type"] == "invalid_request_error"
    else:
        assert isinstance(result, DecodedRequest)


@given(sent=st.binary(max_size=200))
def test_any_bytes(sent):
    assert isinstance(outcome(sent), ApiError)


@pytest.mark.slow
@given(sent=REQUESTS.map(lambda fields: json.dumps(fields).encode()), is_strict=st.booleans())
def test_any_json_near_the_schema(sent, is_strict):
    assert_sound(outcome(sent, is_strict=is_strict))


@given(seed=st.sampled_from(SEEDS), start=st.integers(0, 400), length=st.integers(0, 3), patch=st.binary(max_size=4))
def test_any_damage_to_a_valid_body(seed, start, length, patch):
    start %= len(seed)
    assert_sound(outcome(seed[:start] + patch + seed[start + length :]))


@pytest.mark.parametrize("seed", SEEDS, ids=range(len(SEEDS)))
def test_a_body_cut_anywhere_is_invalid_json(seed):
    assert isinstance(outcome(seed), DecodedRequest)
    assert {outcome(seed[:end]).code for end in range(len(seed))} == {"invalid_json"}


@pytest.mark.slow
@given(sent=REQUESTS.map(lambda fields: json.dumps(fields).encode()))
def test_decoding_what_was_decoded_changes_nothing(sent):
    result = outcome(sent)
    if isinstance(result, DecodedRequest):
        assert outcome(msgspec.json.encode(result.chat)).chat == result.chat
