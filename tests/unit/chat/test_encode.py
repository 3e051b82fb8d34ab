"""What the client gets."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import Usage
from chat.encode import Head, StreamEncoder, adaptations_header, answer_headers, encoded_choices, error_frame, whole_reply
from chat.errors import UpstreamError
from chat.schema.delivery import Facts, Timings
from chat.schema.reply import Choice, ChoiceDelta, Chunk, Delta, FunctionPiece, Message, Reply, ToolCallPiece
from chat.sse import SseDecoder

HEAD = Head("chatcmpl-1", 1700000000, "gpt-test")


def events(frames: bytes) -> list[dict]:
    return [json.loads(event.data) for event in SseDecoder().feed(frames)]


def whole(reply: Reply, usage: Usage, charged_microcredits: int) -> bytes:
    return whole_reply(HEAD, encoded_choices(reply), reply.system_fingerprint, usage, charged_microcredits)


def test_a_whole_reply_is_openais_object_with_credits():
    reply = Reply((Choice(0, Message(role="assistant", content="Hi", refusal=None), "stop"),), None, "fp")
    body = json.loads(whole(reply, Usage(10, 5, cached_tokens=4), 147_500))
    assert body["object"] == "chat.completion"
    assert body["model"] == "gpt-test"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hi", "refusal": None}
    assert body["usage"]["total_tokens"] == 15
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    assert body["credits_used"] == 0.1475
    assert body["system_fingerprint"] == "fp"


def test_credits_are_exact_text():
    reply = Reply((Choice(0, Message(role="assistant", content=""), "stop"),))
    assert b'"credits_used":9007199.254741' in whole(reply, Usage(), 9_007_199_254_741)
    assert b'"credits_used":2}' in whole(reply, Usage(), 2_000_000)


def test_each_choice_gets_its_role_once_and_first():
    encoder = StreamEncoder(HEAD)
    frames = encoder.frames(
        [
            Chunk((ChoiceDelta(0, Delta()),)),
            Chunk((ChoiceDelta(0, Delta(content="a")),)),
            Chunk((ChoiceDelta(1, Delta(content="b")),)),
            Chunk((ChoiceDelta(0, Delta(), "stop"),)),
        ]
    )
    deltas = [(e["choices"][0]["index"], e["choices"][0]["delta"]) for e in events(frames)]
    assert deltas == [
        (0, {"role": "assistant", "content": ""}),
        (0, {"content": "a"}),
        (1, {"role": "assistant", "content": ""}),
        (1, {"content": "b"}),
        (0, {}),
    ]


def test_a_tool_turn_begins_without_text():
    piece = ToolCallPiece(index=0, id="call_1", type="function", function=FunctionPiece(name="f", arguments=""))
    first, second = events(StreamEncoder(HEAD).frames([Chunk((ChoiceDelta(0, Delta(tool_calls=[piece])),))]))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert second["choices"][0]["delta"]["tool_calls"][0]["id"] == "call_1"


def test_a_chunk_without_news_is_not_sent():
    encoder = StreamEncoder(HEAD)
    encoder.frames([Chunk((ChoiceDelta(0, Delta(content="a")),))])
    assert encoder.frames([Chunk(), Chunk((ChoiceDelta(0, Delta()),))]) == b""


@pytest.mark.parametrize(("valid", "told"), [(True, "true"), (False, "false"), (None, None)])
def test_whether_the_json_is_valid_is_told_where_it_was_judged(valid, told):
    facts = Facts("m", is_schema_valid=valid)
    assert dict(answer_headers(facts, Timings(10, 8))).get("x-schema-valid") == told
    frames = StreamEncoder(HEAD).last_frames(Usage(3, 4), 1, Facts(is_schema_valid=valid))
    assert json.loads(frames.split(b"\n\n")[0].removeprefix(b"data: ")).get("schema_valid") is valid


def test_the_last_frames_are_one_credits_chunk_and_done():
    frames = StreamEncoder(HEAD).last_frames(Usage(3, 4), 1, Facts())
    assert frames.endswith(b"\n\ndata: [DONE]\n\n")
    chunk = json.loads(frames.split(b"\n\n")[0].removeprefix(b"data: "))
    assert chunk["choices"] == []
    assert chunk["usage"]["prompt_tokens"] == 3
    assert chunk["credits_used"] == 0.000001
    assert set(chunk) == {"id", "object", "created", "model", "choices", "usage", "credits_used"}


def test_facts_that_came_too_late_for_headers_stand_in_the_credits_chunk():
    facts = Facts("other", "gpt-test", 1, ("dropped=top_k",))
    frames = StreamEncoder(HEAD).last_frames(Usage(), 0, facts, "insufficient_credits")
    chunk = json.loads(frames.split(b"\n\n")[0].removeprefix(b"data: "))
    assert chunk["model_used"] == "other"
    assert chunk["fallback_from"] == "gpt-test"
    assert chunk["fallback_depth"] == 1
    assert chunk["adaptations"] == ["dropped=top_k"]
    assert chunk["stop_cause"] == "insufficient_credits"


@given(st.lists(st.text(), min_size=1))
def test_hostile_text_never_makes_an_event(texts):
    frames = StreamEncoder(HEAD).frames([Chunk((ChoiceDelta(0, Delta(content=text)),)) for text in texts])
    said = [e["choices"][0]["delta"].get("content") for e in events(frames)][1:] if frames else []
    assert said == texts


@pytest.mark.parametrize("text", ["\n\ndata: [DONE]\n\n", "\r\r", "\u2028\u2029\u0085", '"}\n\ndata: {"error":1}'])
def test_model_text_cannot_forge_an_event(text):
    frames = StreamEncoder(HEAD).frames([Chunk((ChoiceDelta(0, Delta(content=text)),))])
    assert frames.count(b"\n\n") == 2
    assert events(frames)[1]["choices"][0]["delta"]["content"] == text


def test_an_error_frame_is_the_envelope():
    assert events(error_frame(UpstreamError()))[0]["error"]["code"] == "upstream_error"


def test_headers_tell_a_fallback_only_when_there_was_one():
    names = [name for name, _ in answer_headers(Facts("m"), Timings(10, 8), 5)]
    assert names == ["x-model-used", "server-timing", "x-credits-used"]
    headers = dict(answer_headers(Facts("m", "asked", 2), Timings(10, 8)))
    assert headers["x-fallback-from"] == "asked"
    assert headers["x-fallback-depth"] == "2"
    assert headers["server-timing"] == "gateway;dur=2, upstream;dur=8"


def test_the_adaptations_header_is_bounded_and_safe():
    many = tuple(f"ignored=field_{number}" for number in range(500))
    value = adaptations_header(many)
    assert len(value) <= 1024
    shown, _, more = value.rpartition(",more=")
    assert len(shown.split(",")) + int(more) == 500
    assert adaptations_header(("ignored=a,b\r\nx: y\u00e9",)) == "ignored=a?b??x:?y?"
