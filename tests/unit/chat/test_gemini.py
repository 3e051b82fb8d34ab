"""The gemini dialect: bodies that go out, replies and streams that come in. Whole cases stand in tests/wire/gemini."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import Usage
from chat.errors import (
    UnsupportedParameter,
    UpstreamAuthFailed,
    UpstreamError,
    UpstreamInvalidResponse,
    UpstreamModelUnavailable,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamTooLarge,
)
from chat.providers.base import Asked
from chat.providers.gemini import GeminiAdapter
from chat.providers.gemini.schemas import fitted
from chat.schema.reply import Chunk, ToolState
from chat.schema.request import (
    AssistantMessage,
    CustomCall,
    CustomChoice,
    CustomDefinition,
    CustomTool,
    FilePart,
    FunctionCall,
    FunctionDefinition,
    FunctionMessage,
    FunctionTool,
    NamedFunction,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from chat.schema.route import ProviderInfo
from chat.sse import SseDecoder
from tests.unit.chat.values import TENANT, model, request

ADAPTER = GeminiAdapter()
GOOGLE = ProviderInfo("google", "gemini", "http://127.0.0.1:9/v1beta", "sk-upstream", allow_private_address=True)


def asked_of(asked, *quirks: str, states: dict[str, bytes] | None = None, **fields) -> Asked:
    one = msgspec.structs.replace(model(quirks=quirks), **fields)
    target = msgspec.structs.replace(one.targets[0], provider=GOOGLE, upstream_model="gemini-test")
    return Asked(asked, one, target, TENANT, states or {})


ASKED = asked_of(request())


def built(asked, *quirks: str, **fields):
    return json.loads(ADAPTER.build(asked_of(asked, *quirks, **fields)).body)


def turns(*messages, quirks=(), **fields):
    """The turns that follow a greeting."""
    return built(request(messages=[UserMessage(content="Hi"), *messages]), *quirks, **fields)["contents"][1:]


def call(call_id: str, arguments: str = "{}", name: str = "look") -> ToolCall:
    return ToolCall(id=call_id, type="function", function=FunctionCall(name, arguments))


def tool(name="look", **fields):
    return FunctionTool(FunctionDefinition(name, **fields))


def test_the_call_goes_to_the_method_of_its_mode_with_the_key_in_a_header():
    whole, stream = ADAPTER.build(ASKED), ADAPTER.build(asked_of(request(stream=True)))
    assert whole.url == "http://127.0.0.1:9/v1beta/models/gemini-test:generateContent"
    assert stream.url == "http://127.0.0.1:9/v1beta/models/gemini-test:streamGenerateContent?alt=sse"
    assert ("x-goog-api-key", "sk-upstream") in whole.headers
    assert "x-goog-api-key" not in dict(
        ADAPTER.build(msgspec.structs.replace(ASKED, target=msgspec.structs.replace(ASKED.target, provider=KEYLESS))).headers
    )


KEYLESS = msgspec.structs.replace(GOOGLE, api_key="")


def test_nothing_of_the_customer_and_nothing_absent_goes_out():
    body = built(request(), capabilities=frozenset())
    assert body == {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}


def test_the_request_itself_is_never_changed():
    schema = {"type": "object", "properties": {"a": {"$ref": "#/definitions/A", "description": "d"}}, "definitions": {"A": {}}}
    asked = request(tools=[tool(parameters=schema)], messages=[UserMessage(content="a"), UserMessage(content="b")])
    before = repr(asked)
    ADAPTER.build(asked_of(asked))
    assert repr(asked) == before


def test_turns_alternate_and_none_is_empty():
    contents = turns(
        AssistantMessage(content=""),
        UserMessage(content=""),
        AssistantMessage(content="a"),
        AssistantMessage(content="b", refusal="no"),
        UserMessage(content="c"),
        UserMessage(content="d"),
    )
    assert contents == [
        {"role": "model", "parts": [{"text": "a"}, {"text": "b"}, {"text": "no"}]},
        {"role": "user", "parts": [{"text": "c"}, {"text": "d"}]},
    ]


def test_the_first_turn_is_always_the_users():
    empty = built(request(messages=[UserMessage(content="")]))
    assert empty["contents"] == [{"role": "user", "parts": [{"text": ""}]}]
    answered = built(request(messages=[AssistantMessage(content="a")]))
    assert answered["contents"][0] == {"role": "user", "parts": [{"text": "."}]}
    only = built(request(messages=[SystemMessage(content="Be brief.")]))
    assert only["contents"] == [{"role": "user", "parts": [{"text": "Be brief."}]}]
    assert "systemInstruction" not in only


def test_results_open_the_next_turn_in_order_whatever_stands_between():
    contents = turns(
        AssistantMessage(tool_calls=[call("a"), call("b", name="other")]),
        UserMessage(content="hurry"),
        AssistantMessage(content="I do"),
        ToolMessage(content="1", tool_call_id="a"),
        ToolMessage(content="2", tool_call_id="b"),
        quirks=("thinking_budget",),
    )
    assert [next(iter(part)) for part in contents[1]["parts"]] == ["functionResponse", "functionResponse", "text"]
    assert [part["functionResponse"]["name"] for part in contents[1]["parts"][:2]] == ["look", "other"]


def test_a_result_takes_the_name_of_the_last_call_with_its_id():
    contents = turns(
        AssistantMessage(tool_calls=[call("call_0", name="first")]),
        ToolMessage(content="1", tool_call_id="call_0"),
        AssistantMessage(tool_calls=[call("call_0", name="second")]),
        ToolMessage(content="2", tool_call_id="call_0"),
    )
    assert contents[1]["parts"][0]["functionResponse"]["name"] == "first"
    assert contents[3]["parts"][0]["functionResponse"]["name"] == "second"


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        ("", {}),
        (" \n", {}),
        ('{"a": 1}', {"a": 1}),
        ("[1]", {"_raw": "[1]"}),
        ("null", {"_raw": "null"}),
        ('{"a": 1', {"_raw": '{"a": 1'}),
        ('{"a":' * 20_000, {"_raw": '{"a":' * 20_000}),
    ],
)
def test_arguments_are_an_object_or_are_kept_raw(arguments, args):
    assert turns(AssistantMessage(tool_calls=[call("a", arguments)]))[0]["parts"][0]["functionCall"]["args"] == args


def test_numbers_in_arguments_keep_their_digits():
    text = b'{"a":1.0,"b":12345678901234567890123}'
    assert text in ADAPTER.build(asked_of(request(messages=[AssistantMessage(tool_calls=[call("a", text.decode())])]))).body


def test_each_turn_of_calls_is_signed_by_its_state_or_by_the_stand_in():
    said = [
        AssistantMessage(tool_calls=[call("a"), call("b")]),
        ToolMessage(content="1", tool_call_id="a"),
        ToolMessage(content="2", tool_call_id="b"),
        AssistantMessage(tool_calls=[call("c")]),
    ]
    contents = turns(*said, states={"a": b"c2lnbmF0dXJl"})
    assert [part.get("thoughtSignature") for part in contents[0]["parts"]] == ["c2lnbmF0dXJl", None]
    assert contents[2]["parts"][0]["thoughtSignature"] == "skip_thought_signature_validator"
    older = turns(*said, quirks=("thinking_budget",))
    assert not [part for turn in older for part in turn["parts"] if "thoughtSignature" in part]


@pytest.mark.parametrize(
    ("effort", "limit", "budget"),
    [
        ("none", None, 0),
        ("minimal", None, 512),
        ("low", None, 1024),
        ("medium", None, 8192),
        ("high", None, 24_576),
        ("max", None, 24_576),
        ("high", 10_000, 5_000),
        ("low", 100, 512),
    ],
)
def test_a_budget_leaves_half_of_the_output_for_the_answer(effort, limit, budget):
    asked = request(reasoning_effort=effort, max_tokens=limit)
    sent = built(asked, "thinking_budget", max_output_tokens=65_536)["generationConfig"]["thinkingConfig"]
    assert sent["thinkingBudget"] == budget
    assert sent.get("includeThoughts", False) is (effort != "none")
    assert "thinkingLevel" not in sent


def test_a_model_before_levels_is_not_asked_to_show_thoughts_it_may_not_have():
    assert "generationConfig" not in built(request(), "thinking_budget")


def test_a_function_may_begin_with_a_digit_here_and_not_there():
    asked = request(tools=[tool("3d")], messages=[AssistantMessage(tool_calls=[call("a", name="3d")])])
    assert built(asked)["tools"][0]["functionDeclarations"][0]["name"] == "_3d"
    reply = ADAPTER.reply(asked_of(asked), whole({"functionCall": {"name": "_3d", "id": "x"}}))
    assert reply.choices[0].message.tool_calls[0].function.name == "3d"


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({"$ref": "#/$defs/A"}, {"$ref": "#/$defs/A"}),
        ({"$ref": "#/$defs/A", "$id": "x"}, {"$ref": "#/$defs/A", "$id": "x"}),
        ({"$ref": "#/definitions/A", "title": "t"}, {"anyOf": [{"$ref": "#/$defs/A"}], "title": "t"}),
        ({"definitions": {"A": {"const": "x"}}}, {"$defs": {"A": {"enum": ["x"]}}}),
        ({"const": None}, {"const": None}),
        ({"const": True}, {"const": True}),
        (
            {"allOf": [{"$ref": "#/$defs/A"}], "default": {"const": 1}},
            {"anyOf": [{"$ref": "#/$defs/A"}], "default": {"const": 1}},
        ),
        ({"allOf": [{}, {}]}, {"allOf": [{}, {}]}),
        (
            {"properties": {"$ref": {"type": "string"}, "const": {"const": 1}, "definitions": {"type": "object"}}},
            {"properties": {"$ref": {"type": "string"}, "const": {"enum": [1]}, "definitions": {"type": "object"}}},
        ),
        ({"items": [{"const": 1}], "additionalProperties": False}, {"items": [{"enum": [1]}], "additionalProperties": False}),
    ],
)
def test_schemas_are_written_with_the_words_known_there(schema, sent):
    assert fitted(schema) == sent


def whole(*parts: object, finish: str | None = "STOP", **fields: object) -> bytes:
    candidate = {"content": {"role": "model", "parts": list(parts)}} | ({"finishReason": finish} if finish else {})
    return json.dumps({"candidates": [candidate], "responseId": "r1"} | fields).encode()


def test_ids_are_minted_once_per_call_and_never_twice_alike():
    part = {"functionCall": {"name": "look"}}
    first = ADAPTER.reply(ASKED, whole(part, part))
    again = ADAPTER.reply(ASKED, whole(part, responseId="r2"))
    nameless = json.dumps({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}).encode()
    without = [ADAPTER.reply(asked, nameless) for asked in (ASKED, asked_of(request(seed=1)))]
    ids = [call.id for reply in (first, again, *without) for call in reply.choices[0].message.tool_calls]
    assert len(set(ids)) == 5
    assert ADAPTER.reply(ASKED, whole(part, part)) == first


def test_arguments_come_out_compact_with_the_digits_they_had():
    body = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{\n "a": 1.0,\n "b": "\xe2\x80\xa8\\u003c"}}}]},"finishReason":"STOP"}]}'
    arguments = ADAPTER.reply(ASKED, body).choices[0].message.tool_calls[0].function.arguments
    assert arguments == '{"a":1.0,"b":"\u2028<"}'


@pytest.mark.parametrize("args", [b"[1]", b'"text"', b"1", b'{"a":"\xff"}', b'{"a":1e400}'])
def test_arguments_that_are_no_object_are_no_answer(args):
    body = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":%b}}]},"finishReason":"STOP"}]}' % args
    with pytest.raises(UpstreamInvalidResponse):
        ADAPTER.reply(ASKED, body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"[]",
        b"{}",
        b'{"candidates":[]}',
        b'{"candidates":null,"promptFeedback":{}}',
        b'{"candidates":[{"content":{"parts":[{"text":5}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"text":"\xff"}]}}]}',
        b"[" * 100_000,
        whole({"text": "half"}, finish=None),
        whole({"text": "half"}, finish="FINISH_REASON_UNSPECIFIED"),
        whole({"functionCall": {"args": {}}}),
    ],
)
def test_a_reply_that_breaks_the_grammar_is_refused(body):
    with pytest.raises(UpstreamInvalidResponse):
        ADAPTER.reply(ASKED, body)


@pytest.mark.parametrize("reason", ["OTHER", "MALFORMED_FUNCTION_CALL", "MISSING_THOUGHT_SIGNATURE", "NO_IMAGE"])
def test_a_finish_that_is_the_providers_fault_is_a_failure_of_the_attempt(reason):
    with pytest.raises(UpstreamError) as caught:
        ADAPTER.reply(ASKED, whole({"text": "a"}, finish=reason))
    assert caught.value.may_fall_back


def test_a_limited_account_is_ours():
    with pytest.raises(UpstreamAuthFailed):
        ADAPTER.reply(ASKED, whole(finish="PUP_LIMITED_DISABLED"))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}, Usage(5, 2)),
        ({"promptTokenCount": 5, "candidatesTokenCount": 2}, Usage(5, 2)),
        ({"promptTokenCount": 5}, Usage(5, 0)),
        ({}, Usage()),
        ({"promptTokenCount": 5, "totalTokenCount": 9}, Usage(5, 4)),
        ({"candidatesTokenCount": 2, "totalTokenCount": 9}, Usage(7, 2)),
        ({"promptTokenCount": 5, "thoughtsTokenCount": 4, "totalTokenCount": 9}, Usage(5, 4, reasoning_tokens=4)),
        (
            {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 4, "totalTokenCount": 11},
            Usage(5, 6, reasoning_tokens=4),
        ),
        (
            {"promptTokenCount": 5, "candidatesTokenCount": 6, "thoughtsTokenCount": 4, "totalTokenCount": 11},
            Usage(5, 6, reasoning_tokens=4),
        ),
        (
            {"promptTokenCount": 5, "candidatesTokenCount": 2, "toolUsePromptTokenCount": 3, "totalTokenCount": 10},
            Usage(8, 2),
        ),
        ({"promptTokenCount": 5, "cachedContentTokenCount": 9, "candidatesTokenCount": 1}, Usage(5, 1, cached_tokens=5)),
        (
            {
                "promptTokenCount": 100,
                "cachedContentTokenCount": 40,
                "candidatesTokenCount": 1,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 50}, {"modality": "AUDIO", "tokenCount": 50}, None],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 30}],
            },
            Usage(100, 1, cached_tokens=40, audio_tokens=20),
        ),
        ({"promptTokenCount": -5, "candidatesTokenCount": 2}, None),
        ({"promptTokenCount": "5", "candidatesTokenCount": 2}, None),
        ({"promptTokenCount": True, "candidatesTokenCount": 2}, None),
        ({"promptTokenCount": 5, "candidatesTokenCount": 2**40}, None),
    ],
)
def test_usage_is_checked_and_its_parts_fit_their_totals(usage, expected):
    assert ADAPTER.reply(ASKED, whole({"text": "a"}, usageMetadata=usage)).usage.tokens == expected


def test_no_usage_is_none():
    assert ADAPTER.reply(ASKED, whole({"text": "a"})).usage is None


def sse(*bodies: bytes) -> bytes:
    return b"".join(b"data: " + body + b"\r\n\r\n" for body in bodies)


def decode_stream(data: bytes, cut: int | None = None, asked: Asked = ASKED) -> list[Chunk]:
    decoder, stream = SseDecoder(), ADAPTER.stream(asked)
    parts = [data] if cut is None else [data[:cut], data[cut:]]
    events = [event for part in parts for event in decoder.feed(part)] + decoder.flush()
    chunks = [stream.decode(event.event, event.data) for event in events]
    stream.flush()
    return [chunk for chunk in chunks if chunk is not None]


SIGNED = {"functionCall": {"name": "look", "args": {"at": "é"}}, "thoughtSignature": "c2ln"}
STREAM = sse(
    whole({"text": "Hm", "thought": True}, finish=None, usageMetadata={"promptTokenCount": 3}),
    whole({"text": "Hé\u2028"}, finish=None),
    whole({"text": "llo 🌍"}, SIGNED, finish=None),
    whole({"text": ""}, usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 4, "thoughtsTokenCount": 1}),
)


def test_a_stream():
    chunks = decode_stream(STREAM)
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content for delta in deltas if delta.content) == "Hé\u2028llo 🌍"
    assert deltas[0].reasoning_content == "Hm"
    assert chunks[-1].usage.tokens == Usage(3, 5, reasoning_tokens=1)
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    piece = deltas[2].tool_calls[0]
    assert (piece.index, piece.type, piece.function.arguments) == (0, "function", '{"at":"é"}')
    assert chunks[2].states == (ToolState(piece.id, b"c2ln"),)


@given(st.integers(0, len(STREAM)))
def test_the_chunks_do_not_depend_on_where_the_bytes_were_cut(cut):
    assert decode_stream(STREAM, cut) == decode_stream(STREAM)


def test_only_the_first_call_is_given_out_where_the_client_takes_one_at_a_time():
    asked = asked_of(request(parallel_tool_calls=False))
    chunks = decode_stream(sse(whole(SIGNED, SIGNED, finish=None), whole(SIGNED)), asked=asked)
    calls = [piece for chunk in chunks for choice in chunk.choices for piece in choice.delta.tool_calls or ()]
    assert len(calls) == 1
    assert [state for chunk in chunks for state in chunk.states] == [ToolState(calls[0].id, b"c2ln")]


def test_an_event_after_the_end_does_not_open_a_candidate_again():
    assert len(decode_stream(sse(whole({"text": "a"}), whole(finish=None)))) == 2


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (sse(whole({"text": "a"}, finish=None)), UpstreamError),
        (
            sse(
                json.dumps(
                    {"candidates": [{"finishReason": "STOP"}, {"index": 1, "content": {"parts": [{"text": "a"}]}}]}
                ).encode()
            ),
            UpstreamError,
        ),
        (b"", UpstreamInvalidResponse),
        (b"<html></html>", UpstreamInvalidResponse),
        (sse(b'{"usageMetadata":{}}'), UpstreamInvalidResponse),
    ],
)
def test_a_stream_that_ends_early_is_a_failure(data, kind):
    with pytest.raises(kind):
        decode_stream(data)


def error(code: object, status: str, **detail: object) -> bytes:
    return json.dumps(
        {"error": {"code": code, "message": "sk-upstream leaked", "status": status, "details": [detail]}}
    ).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, error(400, "INVALID_ARGUMENT"), UpstreamRejected),
        (400, error(400, "INVALID_ARGUMENT", reason="API_KEY_INVALID"), UpstreamAuthFailed),
        (400, error(400, "FAILED_PRECONDITION"), UpstreamAuthFailed),
        (400, b"<html>", UpstreamRejected),
        (401, error(401, "UNAUTHENTICATED"), UpstreamAuthFailed),
        (403, error(403, "PERMISSION_DENIED"), UpstreamAuthFailed),
        (404, error(404, "NOT_FOUND"), UpstreamModelUnavailable),
        (409, error(409, "ABORTED"), UpstreamError),
        (413, b"", UpstreamTooLarge),
        (429, error(429, "RESOURCE_EXHAUSTED"), UpstreamRateLimited),
        (499, error(499, "CANCELLED"), UpstreamError),
        (500, error(500, "INTERNAL"), UpstreamError),
        (503, error(503, "UNAVAILABLE"), UpstreamOverloaded),
        (504, error(504, "DEADLINE_EXCEEDED"), UpstreamTimeout),
    ],
)
def test_a_failure_is_classified_by_status_and_then_by_code(status, body, kind):
    for wrapped in (body, b"[" + body + b"]"):
        failure = ADAPTER.failure(status, {}, wrapped)
        assert type(failure) is kind
        assert failure.upstream_status == status
        assert b"sk-upstream" not in failure.envelope()


@pytest.mark.parametrize(
    ("delay", "told"), [("17s", "17"), ("0.5s", "1"), ("3.2s", "4"), ("9999s", "60"), ("soon", "1"), (5, "1")]
)
def test_the_wait_stands_in_the_details(delay, told):
    assert ("retry-after", told) in ADAPTER.failure(429, {}, error(429, "RESOURCE_EXHAUSTED", retryDelay=delay)).headers


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (error(429, "RESOURCE_EXHAUSTED"), UpstreamRateLimited),
        (error(503, "UNAVAILABLE"), UpstreamOverloaded),
        (error(None, "UNAVAILABLE"), UpstreamOverloaded),
        (error(None, "UNHEARD_OF"), UpstreamError),
        (error(400, "INVALID_ARGUMENT", reason="API_KEY_INVALID"), UpstreamAuthFailed),
        (b"[" + error(500, "INTERNAL") + b"]", UpstreamError),
        (b'{"error":"text"}', UpstreamError),
        (b'{"error":{"details":5}}', UpstreamError),
    ],
)
def test_an_error_inside_a_200_is_a_failure(body, kind):
    for read in (ADAPTER.reply, lambda asked, data: ADAPTER.stream(asked).decode("message", data)):
        with pytest.raises(kind) as caught:
            read(ASKED, body)
        assert type(caught.value) is kind
        assert caught.value.upstream_status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [FunctionMessage(content="1", name="look")]},
        {"messages": [AssistantMessage(function_call=FunctionCall("look", "{}"))]},
        {"messages": [AssistantMessage(tool_calls=[ToolCall(id="a", type="custom", custom=CustomCall("look", "x"))])]},
        {"messages": [UserMessage(content=[FilePart(file_id="file-1")])]},
        {"tools": [CustomTool(CustomDefinition("look"))]},
        {"tools": [tool()], "tool_choice": CustomChoice(NamedFunction("look"))},
    ],
)
def test_what_has_no_place_on_the_wire_is_refused_and_never_left_out(fields):
    with pytest.raises(UnsupportedParameter):
        ADAPTER.build(asked_of(request(**fields)))
