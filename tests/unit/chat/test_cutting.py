"""The beginning of a chunk: never more than is paid, in whole characters, and no name is changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from billing.pricing import Usage
from chat.cutting import beginning
from chat.outcome import output_bytes
from chat.schema.reply import ChoiceDelta, Chunk, CustomPiece, Delta, FunctionPiece, ReportedUsage, ToolCallPiece

texts = st.none() | st.text("ab\u00b6\u20ac\U0001f600\ud800", max_size=8)
optional = st.just(UNSET) | texts.map(lambda text: UNSET if text is None else text)
functions = st.builds(FunctionPiece, optional, optional)
calls = st.builds(
    ToolCallPiece,
    st.integers(0, 3),
    st.just(UNSET) | st.just("call_1"),
    st.just("function"),
    st.just(UNSET) | functions,
    st.just(UNSET) | st.builds(CustomPiece, optional, optional),
)
deltas = st.builds(
    Delta,
    content=texts,
    reasoning_content=optional,
    refusal=texts,
    tool_calls=st.just(UNSET) | st.lists(calls, max_size=3),
    function_call=st.just(UNSET) | functions,
)
chunks = st.lists(deltas, max_size=3).map(lambda all_of: Chunk(tuple(ChoiceDelta(*pair) for pair in enumerate(all_of))))


def pieces(chunk):
    """Every text of output with the place where it stands, and whether it is a name."""
    found = {}
    for choice in chunk.choices:
        delta = choice.delta
        texts = {"content": delta.content, "reasoning": delta.reasoning_content, "refusal": delta.refusal}
        named = [(("call", call.index, call.id), call.function, call.custom) for call in delta.tool_calls or ()]
        for place, function, custom in [*named, ("function", delta.function_call, None)]:
            if function:
                texts[place, "name"], texts[place, "text"] = function.name, function.arguments
            if custom:
                texts[place, "custom", "name"], texts[place, "custom", "text"] = custom.name, custom.input
        found |= {(choice.index, place): text for place, text in texts.items() if text}
    return found


def distinct(chunk):
    """Whether no two calls of a choice bear the same place."""
    return all(
        len({(call.index, call.id) for call in choice.delta.tool_calls or ()}) == len(choice.delta.tool_calls or ())
        for choice in chunk.choices
    )


@given(chunks.filter(distinct), st.integers(0, 60))
def test_a_beginning_has_at_most_what_was_asked_for_and_says_nothing_else(chunk, most_bytes):
    begun = beginning(chunk, most_bytes)
    assert output_bytes([begun]) <= most_bytes
    whole = pieces(chunk)
    for place, text in pieces(begun).items():
        assert whole[place].startswith(text)
        if place[1][-1] == "name":
            assert text == whole[place]
    if output_bytes([chunk]) <= most_bytes:
        assert pieces(begun) == whole


@given(st.text("ab\u00b6\u20ac\U0001f600", min_size=1), st.integers(1, 40))
def test_of_a_text_no_more_is_missing_than_a_part_of_one_character(text, most_bytes):
    begun = beginning(Chunk((ChoiceDelta(0, Delta(content=text)),)), most_bytes)
    assert output_bytes([begun]) > min(most_bytes, len(text.encode())) - 4


def test_what_is_said_of_the_whole_is_left_out():
    said = ChoiceDelta(1, Delta(role="assistant", content="abc"), "stop", {"content": []})
    chunk = Chunk((said,), ReportedUsage(Usage(1, 2)), "fp")
    assert beginning(chunk, 2) == Chunk((ChoiceDelta(1, Delta(content="ab")),), None, "fp")


@pytest.mark.parametrize(
    ("most_bytes", "kept"),
    [
        (3, []),
        (4, [ToolCallPiece(0, "c", "function", FunctionPiece("name", UNSET))]),
        (6, [ToolCallPiece(0, "c", "function", FunctionPiece("name", '{"'))]),
        (8, [ToolCallPiece(0, "c", "function", FunctionPiece("name", '{"a"'))]),
        (
            10,
            [
                ToolCallPiece(0, "c", "function", FunctionPiece("name", '{"a"')),
                ToolCallPiece(1, custom=CustomPiece(input="ab")),
            ],
        ),
    ],
)
def test_calls_are_cut_in_their_arguments(most_bytes, kept):
    calls = [
        ToolCallPiece(0, "c", "function", FunctionPiece("name", '{"a"')),
        ToolCallPiece(1, custom=CustomPiece(input="abcd")),
        ToolCallPiece(2, "d", "function", FunctionPiece("never", "")),
    ]
    begun = beginning(Chunk((ChoiceDelta(0, Delta(tool_calls=calls)),)), most_bytes)
    assert [call for choice in begun.choices for call in choice.delta.tool_calls] == kept
