"""The openai dialect: bodies that go out, replies and streams that come in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from billing.pricing import Usage
from chat.errors import (
    UpstreamAuthFailed,
    UpstreamContextLength,
    UpstreamError,
    UpstreamFailure,
    UpstreamInvalidResponse,
    UpstreamModelUnavailable,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamTooLarge,
)
from chat.providers.base import Asked
from chat.providers.openai import OpenAIAdapter
from chat.providers.registry import ADAPTERS, DIALECTS
from chat.schema.reply import Chunk
from chat.schema.request import StreamOptions
from chat.sse import SseDecoder
from tests.unit.chat.values import TENANT, asked_of, request

ADAPTER = OpenAIAdapter()
ASKED = asked_of(request())


def built(asked, *quirks):
    return json.loads(ADAPTER.build(asked_of(asked, *quirks)).body)


def decode_stream(data: bytes, cut: int | None = None, asked: Asked = ASKED) -> list[Chunk]:
    sse, stream = SseDecoder(), ADAPTER.stream(asked)
    parts = [data] if cut is None else [data[:cut], data[cut:]]
    events = [event for part in parts for event in sse.feed(part)] + sse.flush()
    chunks = [stream.decode(event.event, event.data) for event in events]
    stream.flush()
    return [chunk for chunk in chunks if chunk is not None]


def test_the_call_goes_to_the_target_with_the_providers_key():
    call = ADAPTER.build(asked_of(request()))
    assert call.url == "http://127.0.0.1:9/v1/chat/completions"
    assert ("authorization", "Bearer sk-upstream") in call.headers


def test_the_body_names_the_upstream_model_and_leaves_out_what_is_absent():
    body = built(request(temperature=0.5))
    assert body["model"] == "upstream-model"
    assert body["temperature"] == 0.5
    assert body["messages"] == [{"role": "user", "content": "Hello"}]
    assert not [name for name, value in body.items() if value is None]


def test_the_output_limit_takes_the_name_that_the_target_knows():
    asked = request(max_tokens=9)
    assert built(asked)["max_tokens"] == 9
    renamed = built(asked, "max_completion_tokens")
    assert renamed["max_completion_tokens"] == 9
    assert "max_tokens" not in renamed


def test_a_stream_always_asks_for_usage_unless_the_target_cannot():
    asked = request(stream=True, stream_options=StreamOptions(include_usage=False))
    assert built(asked)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in built(asked, "no_stream_options")


def test_customers_identifiers_leave_as_tags_of_their_workspace():
    asked = request(user="alice", safety_identifier="alice", prompt_cache_key="k", metadata={"order": "1"})
    call = ADAPTER.build(asked_of(asked))
    assert b"alice" not in call.body
    assert b'"k"' not in call.body
    assert b"order" not in call.body
    other = ADAPTER.build(asked_of(asked, tenant=type(TENANT)(b"secret", "ws_rival")))
    assert other.body != call.body


def test_a_workspace_tag_is_always_sent():
    assert built(request())["prompt_cache_key"] == TENANT.tag("")


def test_the_request_itself_is_never_changed():
    asked = request(max_tokens=9, user="alice", stream=True)
    before = repr(asked)
    ADAPTER.build(asked_of(asked, "max_completion_tokens"))
    assert repr(asked) == before


WHOLE = {
    "id": "x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi", "secret": 1}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    "system_fingerprint": "fp",
}


def test_a_whole_reply():
    reply = ADAPTER.reply(ASKED, json.dumps(WHOLE).encode())
    assert reply.choices[0].message.content == "Hi"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.tokens == Usage(5, 2)
    assert reply.system_fingerprint == "fp"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":null}',
        b'{"choices":[{"index":0,"finish_reason":"stop"}]}',
        b'{"choices":[{"message":{"content":5}}]}',
        b'{"choices":[{"message":{"content":"\xff"}}]}',
        b'{"choices":[{"message":{"tool_calls":[{"id":"a","function":{"arguments":"{}"}}]}}]}',
        b'{"choices":[{"index":1,"message":{"content":"a"}}]}',
        b'{"choices":[{"index":-1,"message":{"content":"a"}}]}',
        b'{"choices":[{"index":0,"message":{"content":"a"}},{"index":0,"message":{"content":"b"}}]}',
        b'{"choices":[{"message":{"tool_calls":[{"id":"a"}]}}]}',
        b"[" * 100_000,
    ],
)
def test_a_reply_that_breaks_the_grammar_is_refused(body):
    with pytest.raises(UpstreamInvalidResponse):
        ADAPTER.reply(ASKED, body)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error":{"code":"insufficient_quota"}}', UpstreamAuthFailed),
        (b'{"error":{"code":"rate_limit_exceeded"}}', UpstreamRateLimited),
        (b'{"error":{"type":"overloaded_error"}}', UpstreamOverloaded),
        (b'{"error":{"code":"context_length_exceeded","type":"invalid_request_error"}}', UpstreamContextLength),
        (b'{"error":{"code":400,"type":"context_length_exceeded"}}', UpstreamContextLength),
        (b'{"error":{"code":"string_above_max_length","type":"invalid_request_error"}}', UpstreamRejected),
        (b'{"error":{"code":400,"type":"BadRequestError"}}', UpstreamRejected),
        (b'{"error":{"code":"422"}}', UpstreamRejected),
        (b'{"error":{"code":413}}', UpstreamTooLarge),
        (b'{"error":{"code":"model_not_found","type":"invalid_request_error"}}', UpstreamModelUnavailable),
        (b'{"error":{"code":404}}', UpstreamModelUnavailable),
        (b'{"error":{"code":"invalid_api_key","type":"invalid_request_error"}}', UpstreamAuthFailed),
        (b'{"error":{"type":"authentication_error"}}', UpstreamAuthFailed),
        (b'{"error":{"type":"permission_error"}}', UpstreamAuthFailed),
        (b'{"error":{"type":"billing_error"}}', UpstreamAuthFailed),
        (b'{"error":{"code":402}}', UpstreamAuthFailed),
        (b'{"error":{"code":429,"type":"insufficient_quota"}}', UpstreamAuthFailed),
        (b'{"error":{"code":"limited","type":"rate_limit_error"}}', UpstreamRateLimited),
        (b'{"error":{"code":429}}', UpstreamRateLimited),
        (b'{"error":{"code":"429","type":"invalid_request_error"}}', UpstreamRateLimited),
        (b'{"error":{"code":529}}', UpstreamOverloaded),
        (b'{"error":{"code":"503"}}', UpstreamOverloaded),
        (b'{"error":{"code":504}}', UpstreamTimeout),
        *[
            (b'{"error":{"code":%s}}' % code, UpstreamError)
            for code in (b"500", b"409", b"0", b"200", b"-400", b"4000", b"429.0", b"true", b'" 429"', b"[429]", b"{}")
        ],
        (b'{"error":"something else"}', UpstreamError),
        (b'{"error":["429"]}', UpstreamError),
    ],
)
def test_an_error_inside_a_200_is_a_failure(body, kind):
    for read in (ADAPTER.reply, lambda asked, data: ADAPTER.stream(asked).decode("message", data)):
        with pytest.raises(UpstreamFailure) as failed:
            read(ASKED, body)
        assert (type(failed.value), failed.value.upstream_status) == (kind, 200)


def reasoned(*, completion, reasoning, total):
    """Usage of a server whose total tells whether its reasoning stands in the completion or beside it."""
    details = {"completion_tokens_details": {"reasoning_tokens": reasoning}}
    return {"prompt_tokens": 12, "completion_tokens": completion, "total_tokens": total, **details}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2}, Usage(5, 2)),
        ({"prompt_tokens": 5}, Usage(5, 0)),
        ({}, Usage(0, 0)),
        ({"prompt_tokens": -5, "completion_tokens": 2}, None),
        ({"prompt_tokens": "5", "completion_tokens": 2}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        ({"prompt_tokens": 5, "completion_tokens": 2.5}, None),
        ({"prompt_tokens": 2**63, "completion_tokens": 2}, None),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 10, "audio_tokens": 5},
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            Usage(100, 50, 30, 10, 5, 20),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 9},
                "completion_tokens_details": {"reasoning_tokens": 99},
            },
            Usage(10, 5, 10, 0, 0, 5),
        ),
        (reasoned(completion=1, reasoning=386, total=399), Usage(12, 387, 0, 0, 0, 386)),
        (reasoned(completion=0, reasoning=386, total=398), Usage(12, 386, 0, 0, 0, 386)),
        (reasoned(completion=387, reasoning=386, total=399), Usage(12, 387, 0, 0, 0, 386)),
        (reasoned(completion=387, reasoning=0, total=399), Usage(12, 387)),
        (reasoned(completion=1, reasoning=386, total=13), Usage(12, 1, 0, 0, 0, 1)),
        (reasoned(completion=1, reasoning=386, total=399.0), Usage(12, 1, 0, 0, 0, 1)),
        (reasoned(completion=1, reasoning=2**31 - 1, total=2**31 + 12), Usage(12, 1, 0, 0, 0, 1)),
        (reasoned(completion=1, reasoning=2**31 - 14, total=2**31 - 1), Usage(12, 2**31 - 13, 0, 0, 0, 2**31 - 14)),
    ],
)
def test_usage_is_checked_and_its_parts_fit_their_totals(usage, expected):
    reply = ADAPTER.reply(ASKED, json.dumps(WHOLE | {"usage": usage}).encode())
    assert reply.usage.tokens == expected


def test_no_usage_is_none():
    assert ADAPTER.reply(ASKED, json.dumps(WHOLE | {"usage": None}).encode()).usage is None


def sse(*payloads: object) -> bytes:
    return b"".join(b"data: " + (p if isinstance(p, bytes) else json.dumps(p).encode()) + b"\n\n" for p in payloads)


def delta(finish=None, index=0, **fields):
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


STREAM = sse(
    delta(role="assistant", content=""),
    delta(content="Hé"),
    delta(content="llo 🌍"),
    delta(finish="stop"),
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
    b"[DONE]",
)


def test_a_stream():
    chunks = decode_stream(STREAM)
    text = "".join(choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content)
    assert text == "Héllo 🌍"
    assert chunks[-1].usage.tokens == Usage(3, 4)
    assert chunks[3].choices[0].finish_reason == "stop"
    assert [chunk.is_real for chunk in chunks] == [False, True, True, True, False]


@given(st.integers(0, len(STREAM)))
def test_the_chunks_do_not_depend_on_where_the_bytes_were_cut(cut):
    assert decode_stream(STREAM, cut) == decode_stream(STREAM)


def test_tool_calls_in_pieces():
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    chunks = decode_stream(
        sse(
            delta(role="assistant", content=None, tool_calls=[first]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a":'}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": "1}"}}]),
            delta(finish="tool_calls"),
        )
    )
    pieces = [chunk.choices[0].delta.tool_calls[0] for chunk in chunks[:3]]
    assert pieces[0].id == "call_1"
    assert pieces[0].function.name == "f"
    assert pieces[1].id is UNSET
    assert "".join(piece.function.arguments for piece in pieces) == '{"a":1}'


def calls_of(*pieces, asked=ASKED):
    """The calls of a stream of pieces, each one a list of calls, as a client adds them up: id, name, arguments."""
    data = sse(*[delta(tool_calls=calls) for calls in pieces], delta(finish="tool_calls"))
    calls = {}
    for chunk in decode_stream(data, asked=asked):
        for piece in chunk.choices[0].delta.tool_calls or ():
            call = calls.setdefault(piece.index, ["", "", ""])
            for position, text in enumerate((piece.id, piece.function.name, piece.function.arguments)):
                call[position] += text or ""
    assert list(calls) == list(range(len(calls)))
    return list(calls.values())


def call_piece(name=None, arguments=None, **fields):
    return {**fields, "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        ([[call_piece("f", "{", index=0, id="a")], [call_piece("f", "}", index=0, id="a")]], [["a", "f", "{}"]]),
        ([[call_piece("f", "{", index=0, id="a")], [call_piece(None, "}", index=0, id="other")]], [["a", "f", "{}"]]),
        ([[call_piece("get_", "", index=0, id="a")], [call_piece("it", "{}", index=0)]], [["a", "get_it", "{}"]]),
        (
            [[call_piece("f", "{}", index=0, id="a")], [call_piece("g", "{}", index=0, id="b")]],
            [["a", "f", "{}"], ["b", "g", "{}"]],
        ),
        ([[call_piece("f", "{}", id="a"), call_piece("g", "{}", id="b")]], [["a", "f", "{}"], ["b", "g", "{}"]]),
        ([[call_piece("f", "{}", id="a")], [call_piece("f", "{}", id="b")]], [["a", "f", "{}"], ["b", "f", "{}"]]),
        ([[call_piece("f", None, index=7, id="a")], [call_piece(None, "{}", index=7)]], [["a", "f", "{}"]]),
    ],
    ids=["repeated", "an-id-for-each-piece", "a-name-in-pieces", "one-index", "no-index", "no-index-one-by-one", "odd-index"],
)
def test_the_calls_of_servers_that_differ_are_calls_that_can_be_answered(pieces, calls):
    assert calls_of(*pieces) == calls


def test_a_call_without_an_id_gets_one_that_is_the_same_in_both_modes_and_differs_elsewhere():
    whole = {"choices": [{"message": {"tool_calls": [call_piece("f", "{}"), call_piece("f", "{}")]}}]}
    reply = ADAPTER.reply(ASKED, json.dumps(whole).encode())
    made = [call.id for call in reply.choices[0].message.tool_calls]
    pieces = [[call_piece("f", "{", index=0)], [call_piece(None, "}", index=0)], [call_piece("f", "{}", index=1)]]
    assert [call[0] for call in calls_of(*pieces)] == made
    assert [call[0] for call in calls_of([call_piece("f", "{}")], [call_piece("f", "{}")])] == made
    rival = asked_of(request(), tenant=type(TENANT)(b"secret", "ws_rival"))
    later = asked_of(request(messages=[*request().messages] * 2))
    others = [call[0] for asked in (rival, later) for call in calls_of(*pieces, asked=asked)]
    assert len({*made, *others}) == 6


@pytest.mark.parametrize(
    "piece", [call_piece(None, "{}", index=0, id="a"), call_piece("", "", index=0), {"index": 0, "id": "a"}]
)
def test_a_call_that_begins_without_a_name_is_no_answer(piece):
    with pytest.raises(UpstreamInvalidResponse):
        calls_of([piece])


def test_what_follows_a_finish_reason_does_not_begin_the_choice_anew():
    assert len(decode_stream(sse(delta(content="a"), delta(finish="stop"), delta()))) == 3


def test_reasoning_under_either_name():
    for name in ("reasoning_content", "reasoning"):
        chunks = decode_stream(sse(delta(**{name: "hm"}), delta(finish="stop")))
        assert chunks[0].choices[0].delta.reasoning_content == "hm"
        assert chunks[0].is_real


def ended(reason):
    """How an answer ends that has this reason, in both modes: its own reason, or the failure."""
    whole = json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": reason}]}).encode()
    for read in (
        lambda: ADAPTER.reply(ASKED, whole).choices[0].finish_reason,
        lambda: decode_stream(sse(delta(content="a"), delta(finish=reason)))[-1].choices[0].finish_reason,
    ):
        try:
            yield read()
        except UpstreamFailure as failure:
            yield type(failure)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        *[(reason, reason) for reason in ("stop", "length", "tool_calls", "content_filter", "function_call")],
        *[
            (reason, "length")
            for reason in ("max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded")
        ],
        ("sensitive", "content_filter"),
        *[(reason, UpstreamError) for reason in ("error", "insufficient_system_resource", "network_error")],
        *[(reason, UpstreamError) for reason in ("abort", "aborted", "cancelled", "canceled")],
        *[(reason, "stop") for reason in ("eos", "eos_token", "end_turn", "a_word_of_next_year")],
    ],
)
def test_other_words_for_the_end_are_told_in_openais(reason, told):
    assert list(ended(reason)) == [told, told]


def test_a_server_without_done_is_whole_by_its_finish_reason():
    assert len(decode_stream(sse(delta(content="a"), delta(finish="length")))) == 2


@pytest.mark.parametrize(
    "data",
    [
        sse(delta(content="a")),
        sse(delta(content="a"), b"[DONE]"),
        sse(delta(finish="stop"), delta(content="b", index=1)),
    ],
)
def test_a_stream_that_ends_early_is_a_failure(data):
    with pytest.raises(UpstreamError):
        decode_stream(data, asked=asked_of(request(n=2)))


@pytest.mark.parametrize("index", [1, -1, 2**40])
def test_a_choice_that_nobody_asked_for_is_no_answer(index):
    with pytest.raises(UpstreamInvalidResponse):
        decode_stream(sse(delta(content="a", index=index), delta(finish="stop", index=index)))


@pytest.mark.parametrize("data", [b"", b"<html></html>", sse(b"[DONE]"), sse(b'{"choices":[]}'), sse(b"{}", b"[DONE]")])
def test_a_stream_without_a_choice_is_no_answer(data):
    with pytest.raises(UpstreamInvalidResponse):
        decode_stream(data)


@pytest.mark.parametrize("payload", [b"{", b"[1]", b'"text"', b'{"choices":[{"delta":{"content":7}}]}', b"\xff\xfe"])
def test_an_event_that_cannot_be_read_is_a_failure(payload):
    with pytest.raises(UpstreamInvalidResponse):
        ADAPTER.stream(ASKED).decode("message", payload)


@pytest.mark.parametrize(
    ("status", "body", "kind", "answer"),
    [
        (400, b"{}", UpstreamRejected, 400),
        (422, b"", UpstreamRejected, 400),
        (400, b'{"error":{"code":"context_length_exceeded"}}', UpstreamContextLength, 400),
        (401, b"", UpstreamAuthFailed, 502),
        (402, b"", UpstreamAuthFailed, 502),
        (403, b"", UpstreamAuthFailed, 502),
        (404, b"", UpstreamModelUnavailable, 502),
        (408, b"", UpstreamTimeout, 504),
        (413, b"", UpstreamTooLarge, 413),
        (429, b"", UpstreamRateLimited, 429),
        (429, b'{"error":{"code":"insufficient_quota"}}', UpstreamAuthFailed, 502),
        (429, b'{"error":{"code":429,"type":"insufficient_quota"}}', UpstreamAuthFailed, 502),
        (500, b'{"error":{"code":429,"type":"rate_limit_error"}}', UpstreamError, 502),
        *[(status, b"", UpstreamError, 502) for status in (405, 409, 410, 421, 425, 451, 499)],
        (500, b"<html>", UpstreamError, 502),
        (503, b"", UpstreamOverloaded, 503),
        (504, b"", UpstreamTimeout, 504),
        (529, b"", UpstreamOverloaded, 503),
        (302, b"", UpstreamError, 502),
    ],
)
def test_a_failure_is_classified_by_status_and_then_by_code(status, body, kind, answer):
    failure = ADAPTER.failure(status, {}, body)
    assert type(failure) is kind
    assert failure.status == answer
    assert failure.upstream_status == status


def test_the_upstreams_words_never_reach_the_caller():
    failure = ADAPTER.failure(500, {}, b'{"error":{"message":"sk-upstream leaked","code":"sk-upstream"}}')
    assert b"sk-upstream" not in failure.envelope()


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("7", "7"),
        ("1.2", "2"),
        ("1.0", "1"),
        ("0.001", "1"),
        ("0", "1"),
        ("00000000000000007", "7"),
        ("999999999", "60"),
        ("1" + "0" * 10, "60"),
        ("9" * 5_000, "60"),
        ("soon", "1"),
        ("-5", "1"),
        ("1.x", "1"),
        ("٣", "1"),
        ("Wed, 25 Nov 2026 10:00:20 GMT", "20"),
        ("Wednesday, 25-Nov-26 10:00:20 GMT", "20"),
        ("Wed, 25 Nov 2026 11:00:00 GMT", "60"),
        ("Wed, 25 Nov 2026 09:59:59 GMT", "1"),
        ("Wed, 25 Nov 2026 99:00:00 GMT", "1"),
        ("Wed, 25 Nov 99999999999999999999 10:00:00 GMT", "1"),
    ],
)
def test_retry_after_is_bounded(sent, told):
    """A date counts from that of the answer: the provider's clock may be wrong, or ours."""
    failure = ADAPTER.failure(429, {"retry-after": sent, "date": "Wed, 25 Nov 2026 10:00:00 GMT"}, b"")
    assert ("retry-after", told) in failure.headers


@pytest.mark.parametrize(("year", "told"), [(1994, "1"), (9999, "60")])
@pytest.mark.parametrize("dated", [{}, {"date": "today"}], ids=["no-date", "unreadable-date"])
def test_a_date_without_another_to_count_from_is_judged_by_our_clock(year, told, dated):
    failure = ADAPTER.failure(503, {"retry-after": f"Wed, 25 Nov {year} 10:00:00 GMT", **dated}, b"")
    assert ("retry-after", told) in failure.headers


def test_failures_that_a_retry_cannot_mend_say_so():
    assert ("x-should-retry", "false") in ADAPTER.failure(401, {}, b"").headers


def test_every_dialect_has_an_adapter():
    assert set(ADAPTERS) == DIALECTS
