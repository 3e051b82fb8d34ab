from __future__ import annotations

import msgspec
import pytest

from tests.unit.chat.sandbox.asking import GREP, PIXEL, TIME, WEATHER, ask, content, conversation, fold, stream, user


async def test_the_whole_reply() -> None:
    assert await ask("Hello there") == {
        "id": (await ask("Hello there"))["id"],
        "object": "chat.completion",
        "created": 1_767_225_600,
        "model": "echo",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 3,
            "total_tokens": 6,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "system_fingerprint": "fp_sandbox",
    }


async def test_the_stream() -> None:
    chunks = await stream("Hello there", stream_options={"include_usage": True})
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:-1]] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hello "},
        {"content": "there"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, None, "stop"]
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 4
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 6


async def test_usage_in_a_stream_is_sent_only_when_asked_for() -> None:
    assert all("usage" not in chunk and chunk["choices"] for chunk in await stream())


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 3},
        {"max_tokens": 2},
        {"max_completion_tokens": 1},
        {"stop": ["lo"]},
        {"logprobs": True},
        {"logprobs": True, "top_logprobs": 3, "n": 2},
        {"messages": [user("[[tokens 40]]")]},
        {"messages": [user("")]},
        {"messages": [user("Grüße, 😀 " * 9)], "max_tokens": 7},
        {"messages": [user([{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": PIXEL}}])]},
        {"messages": [user('[[tool get_weather {"city": "Rome"}]][[tool get_time]]')], "tools": [WEATHER, TIME]},
        {"tools": [WEATHER], "tool_choice": "required"},
        {"tools": [GREP], "tool_choice": "required"},
        {"functions": [WEATHER["function"]], "function_call": {"name": "get_weather"}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}},
    ],
)
async def test_a_stream_amounts_to_the_whole_reply(fields: dict[str, object]) -> None:
    whole = await ask(**fields)
    assert fold(await stream(**fields, stream_options={"include_usage": True})) == whole


async def test_equal_requests_get_equal_answers() -> None:
    assert await ask("One", user="a", prompt_cache_key="b") == await ask("One", user="c", seed=None)
    assert (await ask("One"))["id"] != (await ask("Two"))["id"]


async def test_the_last_user_message_is_repeated() -> None:
    assert content(await ask(messages=conversation("one", "two", "three"))) == "three"
    assert content(await ask(messages=[{"role": "system", "content": "Be brief."}])) == "Say something and I will repeat it."
    assert content(await ask([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])) == "a\nb"


async def test_prompt_tokens_count_all_messages_and_attachments() -> None:
    reply = await ask(messages=[{"role": "system", "content": "x" * 40}, *conversation("y" * 9, "z" * 8, "[[tokens 1]]")])
    assert reply["usage"]["prompt_tokens"] == 18
    assert reply["usage"]["completion_tokens"] == 1
    seen = await ask([{"type": "image_url", "image_url": {"url": PIXEL}}, {"type": "text", "text": "abcd"}])
    assert seen["usage"]["prompt_tokens"] == 86


async def test_completion_tokens_count_all_choices() -> None:
    assert (await ask("12345678", n=3))["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize(
    ("fields", "text", "reason"),
    [
        ({"max_tokens": 1}, "Hell", "length"),
        ({"max_tokens": 100}, "Hello there", "stop"),
        ({"max_completion_tokens": 2, "max_tokens": 1}, "Hello th", "length"),
        ({"stop": "o"}, "Hell", "stop"),
        ({"stop": ["x", "there", "e"]}, "H", "stop"),
        ({"stop": [""]}, "Hello there", "stop"),
        ({"stop": "lo", "max_tokens": 2}, "Hel", "stop"),
    ],
)
async def test_where_a_text_ends(fields: dict[str, object], text: str, reason: str) -> None:
    reply = await ask(**fields)
    assert content(reply) == text
    assert reply["choices"][0]["finish_reason"] == reason


async def test_a_limit_never_cuts_a_character() -> None:
    reply = await ask("€€€", max_tokens=1)
    assert content(reply) == "€"
    assert reply["usage"]["completion_tokens"] == 1


async def test_attachments_are_described() -> None:
    parts = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.jpg"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAAAA=="}},
    ]
    assert content(await ask(parts)) == (
        "Look:\n\nReceived 4: image/png of 69 bytes, an image by address, audio/wav of 3 bytes, a.pdf of 4 bytes."
    )


async def test_tokens() -> None:
    for count in (1, 500):
        reply = await ask(f"[[tokens {count}]]")
        assert reply["usage"]["completion_tokens"] == count
        assert reply["choices"][0]["finish_reason"] == "stop"
    assert (await ask("[[tokens 500]]", max_tokens=20))["usage"]["completion_tokens"] == 20


@pytest.mark.parametrize("count", [1, 4, 128])
async def test_no_reply_is_longer_than_the_model_s_limit(count: int) -> None:
    for said in ("[[tokens 99999]]", "x" * 200_000):
        reply = await ask(said, n=count)
        assert reply["usage"]["completion_tokens"] == 16_384 // count * count
        assert reply["choices"][0]["finish_reason"] == "length"


async def test_a_tool_is_called_as_told() -> None:
    reply = await ask('[[tool get_weather {"city": "Rome"}]]', tools=[WEATHER])
    message = reply["choices"][0]["message"]
    assert message["content"] is None
    assert reply["choices"][0]["finish_reason"] == "tool_calls"
    (call,) = message["tool_calls"]
    assert call["type"] == "function"
    assert call["id"].startswith("call_")
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Rome"}'}


async def test_calls_in_parallel() -> None:
    asked = {"messages": [user("[[tool get_weather]][[tool get_time]]")], "tools": [WEATHER, TIME]}
    calls = (await ask(**asked))["choices"][0]["message"]["tool_calls"]
    assert [call["function"] for call in calls] == [
        {"name": "get_weather", "arguments": '{"city":"text","unit":"C"}'},
        {"name": "get_time", "arguments": "{}"},
    ]
    assert len({call["id"] for call in calls}) == 2
    alone = await ask(**asked, parallel_tool_calls=False)
    assert len(alone["choices"][0]["message"]["tool_calls"]) == 1


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("auto", None),
        ("none", None),
        ("required", ["get_weather"]),
        ({"type": "function", "function": {"name": "get_time"}}, ["get_time"]),
        ({"type": "custom", "custom": {"name": "grep"}}, ["grep"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TIME]}}, None),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TIME]}}, ["get_time"]),
        ({"type": "function", "function": {"name": "unknown"}}, None),
    ],
)
async def test_tool_choice(choice: object, names: list[str] | None) -> None:
    message = (await ask(tools=[WEATHER, TIME, GREP], tool_choice=choice))["choices"][0]["message"]
    calls = message.get("tool_calls")
    assert (calls and [call[call["type"]]["name"] for call in calls]) == names
    assert (message["content"] is None) == (names is not None)


async def test_a_custom_tool_gets_its_input() -> None:
    reply = await ask("[[tool grep]]", tools=[GREP])
    (call,) = reply["choices"][0]["message"]["tool_calls"]
    assert call["custom"] == {"name": "grep", "input": "text"}


async def test_the_old_form_of_tools() -> None:
    asked = {"functions": [WEATHER["function"]], "function_call": {"name": "get_weather"}}
    choice = (await ask(**asked))["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "get_weather", "arguments": '{"city":"text","unit":"C"}'}


async def test_the_tool_s_answer_is_quoted() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        user("[[tool get_weather]]"),
        {"role": "assistant", "content": None, "tool_calls": [call, call | {"id": "call_2"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "Windy."}]},
    ]
    reply = await ask(messages=messages, tools=[WEATHER], tool_choice="required")
    assert content(reply) == "The tool answered: Sunny.\nThe tool answered: Windy."
    assert reply["choices"][0]["finish_reason"] == "stop"


async def test_json() -> None:
    plain = await ask('Say "hi"', response_format={"type": "json_object"})
    assert msgspec.json.decode(content(plain)) == {"answer": 'Say "hi"'}
    schema = WEATHER["function"]["parameters"]
    shaped = await ask(response_format={"type": "json_schema", "json_schema": {"name": "w", "schema": schema, "strict": True}})
    assert msgspec.json.decode(content(shaped)) == {"city": "text", "unit": "C"}
    assert content(await ask(response_format={"type": "text"})) == "Hello there"


async def test_logprobs() -> None:
    (choice,) = (await ask("Hi you", logprobs=True, top_logprobs=2))["choices"]
    tokens = choice["logprobs"]["content"]
    assert [token["token"] for token in tokens] == ["Hi ", "you"]
    assert bytes(tokens[1]["bytes"]) == b"you"
    for token in tokens:
        likely = token["top_logprobs"]
        assert len(likely) == 2
        assert likely[0]["token"] == token["token"]
        assert 0 > token["logprob"] == likely[0]["logprob"] > likely[1]["logprob"]
    (choice,) = (await ask(logprobs=True))["choices"]
    assert [token["top_logprobs"] for token in choice["logprobs"]["content"]] == [[], []]
