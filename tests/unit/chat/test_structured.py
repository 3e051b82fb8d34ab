"""Answers that must be JSON: fences, forced calls, and the check at the end; the same whole and in pieces."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from chat.schema.reply import Choice, ChoiceDelta, Chunk, Delta, FunctionPiece, Message, Reply, ToolCallPiece
from chat.schema.request import JsonObjectFormat, JsonSchema, JsonSchemaFormat, TextFormat
from chat.structured import MAX_CHECKED_BYTES, FenceCutter, JsonStream, Wanted, unfenced, verdict, wanted_of, whole
from tests.unit.chat.values import request

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "pattern": "^(a+)+$"}},
    "required": ["city"],
    "additionalProperties": False,
}
ANYTHING = Wanted()
FENCED = {
    '```json\n{"a": 1}\n```\n': '{"a": 1}',
    "\n ```\n[1]\n```": "[1]",
    '```{"a":1}```': '{"a":1}',
    '```json\r\n{"a": "x```y"}\r\n```  ': '{"a": "x```y"}',
    "```json\n\n{}\n\n```": "\n{}",
}
UNFENCED = [
    "",
    "``",
    "```json",
    '{"a": "```"}',
    ' {"a": 1} ',
    "text ``` code ``` text",
    " " * 2000 + "{}",
    "```" + "a" * 40 + "\n{}",
]


@pytest.mark.parametrize(("text", "inside"), FENCED.items())
def test_a_fence_is_cut(text, inside):
    assert unfenced(text) == inside


@pytest.mark.parametrize("text", UNFENCED)
def test_what_is_no_fence_stays_as_it_is(text):
    assert unfenced(text) == text


@given(st.sampled_from([*FENCED, *UNFENCED]) | st.text("`{}\n ja1", max_size=40), st.lists(st.integers(0, 60), max_size=6))
def test_where_a_text_was_cut_makes_no_difference(text, cuts):
    cutter, places = FenceCutter(), sorted({0, len(text), *[min(cut, len(text)) for cut in cuts]})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert "".join([cutter.feed(piece) for piece in pieces]) + cutter.end() == unfenced(text)


def test_a_fence_holds_back_little():
    cutter = FenceCutter()
    assert cutter.feed("```json\n{" + " " * 5000) == "{" + " " * 5000
    assert cutter.feed('"a": 1') == '"a": 1'


@pytest.mark.parametrize(
    ("text", "valid"),
    [('{"city": "Rome"}', True), ('{"city": 1}', False), ('{"town": "Rome"}', False), ("Rome", False), ("", False)],
)
def test_an_answer_is_judged_against_its_schema(text, valid):
    assert verdict([text], CITY) is valid


def test_every_choice_counts():
    assert verdict(['{"city": "Rome"}', "{}"], CITY) is False


@pytest.mark.parametrize(("text", "valid"), [("{}", True), ("[]", False), ("1", False), ('{"a": NaN}', False)])
def test_json_mode_asks_for_an_object(text, valid):
    assert verdict([text], None) is valid


def test_patterns_are_not_run():
    evil = "a" * 60 + "!"
    assert verdict([json.dumps({"city": evil})], CITY) is True
    by_name = {"patternProperties": {"^(a+)+$": {"type": "string"}}, "additionalProperties": False}
    assert verdict([json.dumps({evil: 1})], by_name) is True


@pytest.mark.parametrize("schema", [{"type": 5}, {"$ref": "#/nowhere"}, {"$ref": "https://example.com/s"}, {"multipleOf": 0}])
def test_a_schema_that_cannot_be_applied_judges_nothing(schema):
    assert verdict(["3"], schema) is None


def test_a_schema_that_takes_too_long_judges_nothing():
    steps = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(25)}
    assert verdict(["{}"], {"$defs": steps | {"d25": {"type": "string"}}, "$ref": "#/$defs/d0"}) is None


def test_a_long_answer_is_not_judged():
    assert verdict(['"' + "a" * MAX_CHECKED_BYTES + '"'], {"type": "string"}) is None


@pytest.mark.parametrize(("items", "valid"), [([{"a": 1}, {"a": 2}], True), ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], False)])
def test_unique_items_are_told_apart_by_their_content(items, valid):
    assert verdict([json.dumps(items)], {"type": "array", "uniqueItems": True}) is valid


def test_what_is_wanted_is_read_from_the_request():
    assert wanted_of(request()) is None
    assert wanted_of(request(response_format=TextFormat())) is None
    assert wanted_of(request(response_format=JsonObjectFormat())) == Wanted()
    schema = JsonSchemaFormat(JsonSchema("city", schema=CITY))
    assert wanted_of(request(response_format=schema), "answer") == Wanted(CITY, "answer")


def reply_of(*texts: str) -> Reply:
    return Reply(tuple(Choice(i, Message(role="assistant", content=text), "stop") for i, text in enumerate(texts)))


def test_a_whole_reply_loses_its_fences_and_is_judged():
    reply, valid = whole(reply_of('```json\n{"city": "Rome"}\n```', '{"city": "Oslo"}'), Wanted(CITY))
    assert [choice.message.content for choice in reply.choices] == ['{"city": "Rome"}', '{"city": "Oslo"}']
    assert valid is True


def test_a_reply_without_text_is_not_valid():
    refused = Reply((Choice(0, Message(role="assistant", content=None, refusal="No."), "stop"),))
    reply, valid = whole(refused, Wanted(CITY))
    assert reply == refused
    assert valid is False


def call(index, *, name=UNSET, arguments=UNSET, id_=UNSET):
    return ToolCallPiece(index=index, id=id_, type="function" if id_ else UNSET, function=FunctionPiece(name, arguments))


def test_a_forced_call_is_the_answer():
    message = Message(
        role="assistant", content=None, tool_calls=[call(UNSET, name="answer", arguments='{"city":"Rome"}', id_="c1")]
    )
    reply, valid = whole(Reply((Choice(0, message, "tool_calls"),)), Wanted(CITY, "answer"))
    [choice] = reply.choices
    assert (choice.message.content, choice.message.tool_calls, choice.finish_reason) == ('{"city":"Rome"}', UNSET, "stop")
    assert valid is True


class Script:
    """A stream decoder that gives what it is told."""

    is_done = False

    def __init__(self, *deltas: ChoiceDelta) -> None:
        self.deltas = list(deltas)

    def decode(self, _event, _data):
        return Chunk((self.deltas.pop(0),))

    def flush(self):
        self.is_done = True


def streamed(wanted, *deltas):
    stream = JsonStream(Script(*deltas), wanted)
    passed = [stream.decode("message", b"").choices[0] for _ in deltas]
    stream.flush()
    assert stream.is_done
    return passed, stream.verdict()


def test_a_stream_loses_its_fence_and_is_judged_at_its_end():
    pieces = ["``", "`json\n", '{"city"', ': "Rome"}\n', "```"]
    deltas = [ChoiceDelta(0, Delta(content=piece)) for piece in pieces]
    passed, valid = streamed(Wanted(CITY), *deltas, ChoiceDelta(0, Delta(), "stop"))
    assert "".join([choice.delta.content or "" for choice in passed]) == '{"city": "Rome"}'
    assert passed[-1].finish_reason == "stop"
    assert valid is True


def test_what_was_held_back_comes_with_the_finish():
    passed, valid = streamed(ANYTHING, ChoiceDelta(0, Delta(content="``")), ChoiceDelta(0, Delta(content="x"), "length"))
    assert [choice.delta.content for choice in passed] == [UNSET, "``x"]
    assert valid is False


def test_a_streamed_forced_call_is_the_answer():
    passed, valid = streamed(
        Wanted(CITY, "answer"),
        ChoiceDelta(0, Delta(tool_calls=[call(0, name="answer", arguments="", id_="c1")])),
        ChoiceDelta(0, Delta(tool_calls=[call(0, arguments='{"city":')])),
        ChoiceDelta(0, Delta(tool_calls=[call(0, arguments='"Rome"}')])),
        ChoiceDelta(0, Delta(), "tool_calls"),
    )
    assert "".join([choice.delta.content or "" for choice in passed]) == '{"city":"Rome"}'
    assert [choice.delta.tool_calls for choice in passed] == [UNSET] * 4
    assert passed[-1].finish_reason == "stop"
    assert valid is True


ROME, OSLO = '{"city":"Rome"}', '{"city":"Oslo"}'


@pytest.mark.parametrize(
    ("calls", "content", "left"),
    [
        ([("answer", ROME), ("answer", OSLO)], ROME, []),
        ([("answer", ROME), ("other", "{}")], ROME, []),
        ([("other", "{}"), ("answer", ROME), ("answer", OSLO), ("other", "[]")], ROME, [("other", "{}")]),
        ([("other", "{}"), ("other", "[]")], "", [("other", "{}"), ("other", "[]")]),
        ([("answer", ""), ("answer", ROME)], "", []),
    ],
    ids=["two-answers", "another-after", "among-others", "none", "an-empty-one"],
)
@pytest.mark.parametrize("order", ["one-by-one", "interleaved", "at-once"])
def test_the_first_call_of_the_tool_is_the_answer_in_both_modes(calls, content, left, order):
    made = [call(UNSET, name=name, arguments=said, id_=f"c{index}") for index, (name, said) in enumerate(calls)]
    message = Message(role="assistant", content=None, tool_calls=made)
    reply, valid = whole(Reply((Choice(0, message, "tool_calls"),)), Wanted(CITY, "answer"))
    [choice] = reply.choices
    assert (choice.message.content or "", names_and_arguments(choice.message.tool_calls or [])) == (content, left)

    begun = [call(index, name=name, arguments="", id_=f"c{index}") for index, (name, _) in enumerate(calls)]
    filled = [call(index, arguments=said) for index, (_, said) in enumerate(calls)]
    pieces = [*begun, *filled] if order == "interleaved" else [one for pair in zip(begun, filled, strict=True) for one in pair]
    batches = [pieces] if order == "at-once" else [[piece] for piece in pieces]
    deltas = [ChoiceDelta(0, Delta(tool_calls=batch)) for batch in batches]
    is_answered = any(name == "answer" for name, _ in calls)
    last = ChoiceDelta(0, Delta(content="And more." if is_answered else UNSET), "tool_calls")
    passed, streamed_valid = streamed(Wanted(CITY, "answer"), *deltas, last)
    told = "".join([one.delta.content or "" for one in passed])
    assert (told, passed[-1].finish_reason, streamed_valid) == (content, choice.finish_reason, valid)
    folded: dict[int, str] = {}
    for piece in [piece for one in passed for piece in one.delta.tool_calls or []]:
        folded[piece.index] = folded.get(piece.index, "") + (piece.function.arguments or "")
    assert list(folded.values()) == [said for _, said in left]


def names_and_arguments(calls):
    return [(one.function.name, one.function.arguments) for one in calls]


def test_other_calls_of_a_stream_pass():
    passed, _ = streamed(
        Wanted(CITY, "answer"), ChoiceDelta(0, Delta(tool_calls=[call(0, name="other", arguments="{}", id_="c1")]))
    )
    assert passed[0].delta.tool_calls[0].function.name == "other"


def test_a_turn_that_only_calls_tools_is_not_judged():
    message = Message(role="assistant", content=None, tool_calls=[call(UNSET, name="other", arguments="{}", id_="c1")])
    assert whole(Reply((Choice(0, message, "tool_calls"),)), Wanted(CITY))[1] is None
    _, valid = streamed(
        Wanted(CITY),
        ChoiceDelta(0, Delta(tool_calls=[call(0, name="other", arguments="{}", id_="c1")])),
        ChoiceDelta(0, Delta(), "tool_calls"),
    )
    assert valid is None
