"""The official Python client, unmodified, against the real server process: what it is asked for, in both modes."""

from __future__ import annotations

import asyncio
import base64
import struct
import zlib
from typing import Any

import msgspec
import pytest
from openai import AsyncOpenAI, OpenAI, pydantic_function_tool
from pydantic import BaseModel

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script, ToolCall
from tests.live.answers import Answer, ask, assert_booked, cost_of, read_stream, read_whole, texts
from tests.live.books import Books
from tests.live.catalog import PROVIDER_KEY

pytestmark = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Weather(BaseModel):
    city: str
    celsius: int


def png(width: int = 2, height: int = 2) -> bytes:
    """A white image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\xff" * 3 * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def asked_upstream(provider: FakeProvider) -> dict[str, Any]:
    """The body of the one request that reached the provider."""
    (seen,) = provider.requests()
    body: dict[str, Any] = seen.json
    return body


def test_text(client: OpenAI, provider: FakeProvider, books: Books, stream):
    provider.script("main", Script(text="Grüße, 你好 and 👋.", usage={"prompt_tokens": 11, "completion_tokens": 7}))
    answer = ask(client, "Say hello.", stream=stream)
    assert answer.id.startswith("chatcmpl-")
    assert answer.text == "Grüße, 你好 and 👋."
    assert [part.finish_reason for part in answer.parts] == ["stop"]
    assert (answer.prompt_tokens, answer.completion_tokens) == (11, 7)
    assert answer.charged_microcredits == 11 * 250 + 7 * 1000
    assert answer.extra == {}
    booked = assert_booked(books, answer)
    assert booked.usage_source == "reported"
    assert (booked.status, booked.end_state) == (200, "done")
    upstream = asked_upstream(provider)
    assert upstream["messages"] == [{"role": "user", "content": "Say hello."}]
    assert upstream.get("stream_options") == ({"include_usage": True} if stream else None)


def test_usage_is_told_apart_by_the_caller_s_own_user(client: OpenAI, stream):
    name = f"ada {stream}"
    first, second, _ = (ask(client, user=user, stream=stream).charged_microcredits for user in (name, name, "bob"))
    groups = client.get("/usage?group_by=user", cast_to=dict[str, Any])["data"]
    of_ada = next(group for group in groups if group["user"] == name)
    assert (of_ada["requests"], round(of_ada["credits_used"] * 1_000_000)) == (2, first + second)


def test_sandbox(client: OpenAI, books: Books, stream):
    answer = ask(client, "Hello there!", model="sandbox-echo", stream=stream)
    assert answer.text == "Hello there!"
    assert_booked(books, answer)


def test_system_and_developer_messages(client: OpenAI, provider: FakeProvider, stream):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Answer in French."}]},
        {"role": "user", "content": "Hello", "name": "ada"},
    ]
    ask(client, messages, stream=stream)
    assert asked_upstream(provider)["messages"] == messages


def test_tools_round_trip(client: OpenAI, provider: FakeProvider, books: Books, stream):
    arguments = '{"city": "Rome", "unit": "celsius"}'
    provider.script("main", Script(tool_calls=(ToolCall("get_weather", arguments, "call_1"),)), Script(text="It is sunny."))
    question = [{"role": "user", "content": "How is Rome?"}]
    first = ask(client, question, tools=[WEATHER], tool_choice="auto", stream=stream)
    assert first.parts[0].finish_reason == "tool_calls"
    assert first.text == ""
    (call,) = first.parts[0].calls
    assert (call.id, call.name, call.arguments) == ("call_1", "get_weather", arguments)
    assert_booked(books, first)

    replayed = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    turn = {"role": "assistant", "content": None, "tool_calls": [replayed]}
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "clear"}'}
    second = ask(client, [*question, turn, result], tools=[WEATHER], stream=stream)
    assert second.text == "It is sunny."
    assert_booked(books, second)
    upstream = provider.requests()[1].json["messages"]
    assert upstream[1]["tool_calls"] == [replayed]
    assert upstream[2] == result


def test_parallel_tool_calls(client: OpenAI, provider: FakeProvider, books: Books, stream):
    calls = (ToolCall("get_weather", '{"city": "Rome"}', "call_1"), ToolCall("get_weather", '{"city": "Oslo"}', "call_2"))
    provider.script("main", Script(tool_calls=calls))
    answer = ask(client, tools=[WEATHER], parallel_tool_calls=True, tool_choice="required", stream=stream)
    assert [(call.id, call.arguments) for call in answer.parts[0].calls] == [
        ("call_1", '{"city": "Rome"}'),
        ("call_2", '{"city": "Oslo"}'),
    ]
    assert_booked(books, answer)
    upstream = asked_upstream(provider)
    assert upstream["tools"] == [WEATHER]
    assert (upstream["tool_choice"], upstream["parallel_tool_calls"]) == ("required", True)


def test_tool_choice_by_name(client: OpenAI, stream):
    chosen = {"type": "function", "function": {"name": "get_weather"}}
    answer = ask(client, "Anything", model="sandbox-echo", tools=[WEATHER], tool_choice=chosen, stream=stream)
    assert [call.name for call in answer.parts[0].calls] == ["get_weather"]
    answer = ask(client, "Anything", model="sandbox-echo", tools=[WEATHER], tool_choice="none", stream=stream)
    assert answer.parts[0].calls == []


def test_json_mode(client: OpenAI, provider: FakeProvider, stream):
    provider.script("main", Script(text='{"ok": true}'))
    answer = ask(client, "In JSON, please.", response_format={"type": "json_object"}, stream=stream)
    assert msgspec.json.decode(answer.text) == {"ok": True}
    assert asked_upstream(provider)["response_format"] == {"type": "json_object"}


def test_json_schema(client: OpenAI, provider: FakeProvider, stream):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    provider.script("main", Script(text='{"city": "Rome"}'))
    answer = ask(client, response_format=wanted, stream=stream)
    assert msgspec.json.decode(answer.text) == {"city": "Rome"}
    assert asked_upstream(provider)["response_format"] == wanted


def test_structured_output_as_a_class(client: OpenAI, provider: FakeProvider, stream):
    """`parse` and the `stream` helper turn a pydantic model into a strict schema and the answer into an instance."""
    provider.script("main", Script(text='{"city":"Rome","celsius":21}'))
    messages: Any = [{"role": "user", "content": "How is Rome?"}]
    if stream:
        with client.chat.completions.stream(model="main", messages=messages, response_format=Weather) as events:
            assert "content.done" in [event.type for event in events]
            parsed = events.get_final_completion().choices[0].message.parsed
    else:
        parsed = (
            client.chat.completions.parse(model="main", messages=messages, response_format=Weather).choices[0].message.parsed
        )
    assert parsed == Weather(city="Rome", celsius=21)
    wanted = asked_upstream(provider)["response_format"]["json_schema"]
    assert wanted["strict"] is True
    assert wanted["schema"]["properties"].keys() == {"city", "celsius"}


@pytest.mark.parametrize("detail", [None, "low", "high", "auto"])
def test_inline_image(client: OpenAI, provider: FakeProvider, books: Books, stream, detail: str | None):
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    image = {"type": "image_url", "image_url": {"url": url} | ({"detail": detail} if detail else {})}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    answer = ask(client, messages, stream=stream)
    assert asked_upstream(provider)["messages"] == messages
    assert_booked(books, answer)


def test_several_choices(client: OpenAI, provider: FakeProvider, books: Books, stream):
    provider.script("main", Script(text="One of several."))
    answer = ask(client, n=2, stream=stream)
    assert [(part.text, part.finish_reason) for part in answer.parts] == [("One of several.", "stop")] * 2
    assert asked_upstream(provider)["n"] == 2
    assert_booked(books, answer)


def test_stop(client: OpenAI, provider: FakeProvider, stream):
    answer = ask(client, "one two three four", model="sandbox-echo", stop=["three", "never"], stream=stream)
    assert answer.text == "one two "
    assert answer.parts[0].finish_reason == "stop"
    ask(client, stop="halt", stream=stream)
    assert asked_upstream(provider)["stop"] == "halt"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_length(client: OpenAI, books: Books, stream, name: str):
    answer = ask(client, "a rather long text to be cut", model="sandbox-echo", stream=stream, **{name: 3})
    assert answer.text == "a rather lon"
    assert answer.parts[0].finish_reason == "length"
    booked = assert_booked(books, answer)
    assert booked.end_state == "length"


def test_logprobs(client: OpenAI, provider: FakeProvider, stream):
    provider.script("main", Script(text="yes or no"))
    answer = ask(client, logprobs=True, top_logprobs=2, stream=stream)
    tokens = answer.parts[0].logprobs
    assert [token.token for token in tokens] == ["yes ", "or ", "no"]
    assert [(token.logprob, len(token.top_logprobs), bytes(token.bytes).decode()) for token in tokens] == [
        (-0.25, 2, "yes "),
        (-0.25, 2, "or "),
        (-0.25, 2, "no"),
    ]


def test_sampling_parameters_reach_the_provider(client: OpenAI, provider: FakeProvider, stream):
    fields: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": -0.5,
        "frequency_penalty": 1.5,
        "seed": 7,
        "logit_bias": {"50256": -100},
        "reasoning_effort": "low",
        "verbosity": "low",
    }
    ask(client, stream=stream, **fields)
    upstream = asked_upstream(provider)
    assert {name: upstream[name] for name in fields} == fields


def test_identifiers_of_a_customer_leave_as_tags(client: OpenAI, provider: FakeProvider, stream):
    ask(client, user="ada@example.com", safety_identifier="ada", prompt_cache_key="thread-1", stream=stream)
    upstream = asked_upstream(provider)
    tags = [upstream[name] for name in ("user", "safety_identifier", "prompt_cache_key")]
    assert len(set(tags)) == 3
    assert not {"ada@example.com", "ada", "thread-1"}.intersection(tags)


def test_refusal_and_reasoning(client: OpenAI, provider: FakeProvider, stream):
    provider.script("main", Script(reasoning="Let me think.", refusal="I cannot do that."))
    answer = ask(client, stream=stream)
    assert (answer.parts[0].refusal, answer.parts[0].reasoning) == ("I cannot do that.", "Let me think.")
    assert answer.text == ""


def test_classes_of_tokens(client: OpenAI, provider: FakeProvider, stream):
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    provider.script("main", Script(usage=usage))
    messages: Any = [{"role": "user", "content": "Hello " * 20}]
    reply = client.chat.completions.create(model="main", messages=messages, stream=stream)
    shown = next(chunk.usage for chunk in reply if chunk.usage) if stream else reply.usage
    assert shown.prompt_tokens_details.cached_tokens == 40
    assert shown.completion_tokens_details.reasoning_tokens == 30


def test_the_provider_is_called_with_its_own_key(client: OpenAI, provider: FakeProvider, keys: dict[str, str], stream):
    ask(client, model="keyed", stream=stream, extra_headers={"x-secret-of-the-caller": "42", "cookie": "a=b"})
    (seen,) = provider.requests()
    assert seen.header("authorization") == f"Bearer {PROVIDER_KEY}"
    assert keys["acme"] not in str(seen.headers)
    assert seen.header("x-secret-of-the-caller") is None
    assert seen.header("cookie") is None


def test_a_stream_in_small_pieces(client: OpenAI, provider: FakeProvider, books: Books, stream):
    """How the provider cuts its bytes, ends its lines and comments its stream makes no difference."""
    script = Script(text="Grüße 👋 – ja, wirklich.", write_bytes=7, line_end="\r\n", has_comments=True, framing="close")
    provider.script("main", script)
    answer = ask(client, stream=stream)
    assert answer.text == "Grüße 👋 – ja, wirklich."
    assert_booked(books, answer)


async def test_the_asynchronous_client(async_client: AsyncOpenAI, provider: FakeProvider, books: Books, stream):
    """Many at once, each answered with its own text and booked by itself."""
    provider.script("main", Script(echoes=True, delay_between_s=0.01))

    async def one(number: int) -> Answer:
        messages: Any = [{"role": "user", "content": f"number {number} of twenty"}]
        raw = await async_client.chat.completions.with_raw_response.create(model="main", messages=messages, stream=stream)
        headers = dict(raw.headers.items())
        reply: Any = raw.parse()
        return read_stream([chunk async for chunk in reply], headers) if stream else read_whole(reply, headers)

    answers = await asyncio.gather(*[one(number) for number in range(20)])
    assert [answer.text for answer in answers] == [f"number {number} of twenty" for number in range(20)]
    assert len({answer.id for answer in answers}) == 20
    for answer in answers:
        assert_booked(books, answer)


async def test_asynchronous_structured_output(async_client: AsyncOpenAI, provider: FakeProvider, stream):
    provider.script("main", Script(text='{"city":"Oslo","celsius":-4}'))
    messages: Any = [{"role": "user", "content": "How is Oslo?"}]
    if stream:
        async with async_client.chat.completions.stream(model="main", messages=messages, response_format=Weather) as events:
            completion = await events.get_final_completion()
    else:
        completion = await async_client.chat.completions.parse(model="main", messages=messages, response_format=Weather)
    assert completion.choices[0].message.parsed == Weather(city="Oslo", celsius=-4)
    assert completion.usage is not None


def test_helpers_of_the_client_parse_tool_calls(client: OpenAI, provider: FakeProvider, stream):
    provider.script("main", Script(tool_calls=(ToolCall("Weather", '{"city":"Rome","celsius":21}'),)))
    tools: Any = [pydantic_function_tool(Weather)]
    messages: Any = [{"role": "user", "content": "Note that Rome has 21 degrees."}]
    if stream:
        with client.chat.completions.stream(model="main", messages=messages, tools=tools) as events:
            completion = events.get_final_completion()
    else:
        completion = client.chat.completions.parse(model="main", messages=messages, tools=tools)
    (call,) = completion.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == Weather(city="Rome", celsius=21)


def test_iterating_by_hand(client: OpenAI, provider: FakeProvider, stream):
    """The loop of the README."""
    provider.script("main", Script(text="word " * 30))
    if stream:
        chunks = list(client.chat.completions.create(model="main", messages=[{"role": "user", "content": "Go"}], stream=True))
        assert texts(chunks) == "word " * 30
    else:
        reply = client.chat.completions.create(model="main", messages=[{"role": "user", "content": "Go"}])
        assert reply.choices[0].message.content == "word " * 30


def test_credits_are_exact(client: OpenAI, provider: FakeProvider, books: Books, stream):
    """Any number of tokens: what the client is told is what the ledger has."""
    for prompt_tokens, completion_tokens in [(1, 1), (3, 0), (999_999 % 4096, 1), (123, 4096), (128_000, 17)]:
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        script = Script(text="" if completion_tokens == 0 else "ok", usage=usage)
        provider.script("main", script)
        answer = ask(client, "x" * 200_000, stream=stream)
        assert (answer.prompt_tokens, answer.completion_tokens) == (prompt_tokens, completion_tokens)
        assert cost_of(answer) == prompt_tokens * 250 + completion_tokens * 1000
        assert_booked(books, answer)
