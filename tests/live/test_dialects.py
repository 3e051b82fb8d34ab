"""One suite for every dialect, in both modes: the same request and the same answer, whoever stands behind the model."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.fakes import pdfs
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script, ToolCall
from tests.live import native
from tests.live.answers import Answer, ask, assert_booked
from tests.live.books import Books
from tests.live.catalog import DIALECTS
from tests.live.native import Native
from tests.live.test_python_sdk import png

pytestmark = [
    pytest.mark.parametrize("dialect", list(DIALECTS)),
    pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"]),
]

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "get_time"}}
ROME = ToolCall("get_weather", '{"city":"Rome"}', "call_rome")
OSLO = ToolCall("get_weather", '{"city":"Oslo"}', "call_oslo")
PLACE: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
PDF = base64.b64encode(pdfs.of_pages(["Nothing."])).decode()
PNG = base64.b64encode(png()).decode()


class Weather(BaseModel):
    city: str
    celsius: int


def replayed(*calls: ToolCall, results: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """A conversation in which the model has called tools."""
    asked = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in calls
    ]
    told = [{"role": "tool", "tool_call_id": call.id, "content": (results or {}).get(call.id, "21 degrees")} for call in calls]
    return [{"role": "user", "content": "How warm is it?"}, {"role": "assistant", "content": None, "tool_calls": asked}, *told]


class Case:
    """One model of one dialect, asked in one mode."""

    def __init__(self, client: OpenAI, provider: FakeProvider, books: Books, dialect: str, *, stream: bool) -> None:
        self.client, self.provider, self.books = client, provider, books
        self.dialect, self.model, self.stream = dialect, DIALECTS[dialect], stream

    def script(self, *scripts: Script) -> None:
        self.provider.script(self.model, *scripts)

    def ask(self, prompt: Any = "Hello", **fields: Any) -> Answer:
        answer = ask(self.client, prompt, model=self.model, stream=self.stream, **fields)
        assert_booked(self.books, answer)
        return answer

    @property
    def seen(self) -> Native:
        """What the provider was asked last."""
        return native.read(self.dialect, self.provider.requests()[-1].json)


@pytest.fixture
def case(client: OpenAI, provider: FakeProvider, books: Books, dialect: str, stream) -> Case:
    return Case(client, provider, books, dialect, stream=stream)


def test_text(case: Case):
    case.script(Script(text="Grüße, 你好\u2028and 👋.", usage={"prompt_tokens": 11, "completion_tokens": 7}))
    answer = case.ask("Say hello.")
    assert answer.text == "Grüße, 你好\u2028and 👋."
    assert (answer.prompt_tokens, answer.completion_tokens) == (11, 7)
    assert answer.parts[0].finish_reason == "stop"
    assert case.seen.said == (("user", "Say hello."),)


def test_system_and_several_turns(case: Case):
    case.script(Script())
    case.ask(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "In English."}]},
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "One."},
            {"role": "user", "content": "Two?"},
        ]
    )
    assert case.seen.system.replace("\n", "").replace("brief.In", "brief. In") == "Be brief. In English."
    assert case.seen.said == (("user", "One?"), ("assistant", "One."), ("user", "Two?"))


def test_image(case: Case):
    case.script(Script())
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    case.ask([{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image, image]}])
    assert case.seen.images == (PNG, PNG)
    assert case.seen.said == (("user", "What is it?"),)


def test_pdf(case: Case):
    case.script(Script())
    file = {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}}
    case.ask([{"role": "user", "content": [{"type": "text", "text": "What does it say?"}, file]}])
    assert case.seen.documents == (PDF,)
    assert case.seen.said == (("user", "What does it say?"),)


def test_tool_call(case: Case):
    case.script(Script(tool_calls=(ROME,)))
    answer = case.ask("How is Rome?", tools=[WEATHER, CLOCK])
    [call] = answer.parts[0].calls
    assert (call.name, msgspec.json.decode(call.arguments)) == ("get_weather", {"city": "Rome"})
    assert call.id
    assert answer.parts[0].finish_reason == "tool_calls"
    assert case.seen.tools == ("get_weather", "get_time")


def test_parallel_tool_calls(case: Case):
    case.script(Script(tool_calls=(ROME, OSLO, ToolCall("get_time", "{}", "call_time"))))
    calls = case.ask(tools=[WEATHER, CLOCK]).parts[0].calls
    assert [call.name for call in calls] == ["get_weather", "get_weather", "get_time"]
    assert [msgspec.json.decode(call.arguments) for call in calls] == [{"city": "Rome"}, {"city": "Oslo"}, {}]
    assert len({call.id for call in calls}) == 3


def test_tool_results(case: Case):
    case.script(Script(text="Warm."))
    results = {"call_rome": "30 degrees", "call_oslo": [{"type": "text", "text": "5 degrees"}]}
    answer = case.ask(replayed(ROME, OSLO, results=results), tools=[WEATHER])
    assert answer.text == "Warm."
    assert [(name, msgspec.json.decode(arguments)) for name, arguments in case.seen.calls] == [
        ("get_weather", {"city": "Rome"}),
        ("get_weather", {"city": "Oslo"}),
    ]
    assert case.seen.results == ("30 degrees", "5 degrees")


@pytest.mark.parametrize(
    ("choice", "seen"),
    [
        ("auto", "auto"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "get_time"}}, "get_time"),
    ],
    ids=["auto", "required", "named"],
)
def test_tool_choice(case: Case, choice, seen):
    case.script(Script(tool_calls=(ROME,)))
    case.ask(tools=[WEATHER, CLOCK], tool_choice=choice)
    assert case.seen.choice == seen


def test_no_tool_may_be_called(case: Case):
    case.script(Script(text="No."))
    case.ask(tools=[WEATHER], tool_choice="none")
    assert case.seen.choice == "none" or case.seen.tools == ()


def test_json_schema(case: Case):
    case.script(Script(text='{"city":"Rome"}'))
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE, "strict": True}}
    answer = case.ask(response_format=wanted)
    assert msgspec.json.decode(answer.text) == {"city": "Rome"}
    assert case.seen.schema["properties"] == PLACE["properties"]
    assert answer.extra.get("schema_valid", answer.headers.get("x-schema-valid")) in {True, "true"}


def test_json_schema_with_members_of_any_name(case: Case):
    """Anthropic's structured output has closed objects only, in which a model could answer nothing here: a call is the answer.

    One is: of two, the first.
    """
    labels = {"type": "object", "properties": {"labels": {"type": "object", "additionalProperties": {"type": "string"}}}}
    is_tool = case.dialect == "anthropic"
    said = '{"labels":{"eu":"Europe"}}'
    calls = ToolCall("answer_in_json", said, "call_1"), ToolCall("answer_in_json", '{"labels":{}}', "call_2")
    case.script(Script(tool_calls=calls) if is_tool else Script(text=said))
    answer = case.ask(response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": labels}})
    assert (msgspec.json.decode(answer.text), answer.parts[0].finish_reason) == ({"labels": {"eu": "Europe"}}, "stop")
    assert answer.headers.get("x-request-adaptations") == ("response_format=tool" if is_tool else None)
    assert case.seen.choice == ("answer_in_json" if is_tool else "")


def test_json_mode(case: Case):
    case.script(Script(text='```json\n{"ok": true}\n```'))
    answer = case.ask(response_format={"type": "json_object"})
    assert answer.text == '{"ok": true}'
    told = answer.headers.get("x-request-adaptations", "")
    assert case.seen.schema is True or ("JSON" in case.seen.system and told == "response_format=instruction")


def test_stop_and_limit(case: Case):
    case.script(Script(text="One, two", finish_reason="length"))
    answer = case.ask(stop=["END", "###"], max_tokens=77)
    assert answer.parts[0].finish_reason == "length"
    assert (case.seen.stops, case.seen.limit) == (("END", "###"), 77)


def test_refusal(case: Case):
    case.script(Script(refusal="I cannot help with that."))
    answer = case.ask()
    assert answer.parts[0].refusal or answer.parts[0].finish_reason == "content_filter"


def test_reasoning(case: Case):
    usage = {"prompt_tokens": 5, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}
    case.script(Script(reasoning="Two and two.", text="Four.", usage=usage))
    answer = case.ask("What is 2 + 2?", reasoning_effort="high")
    assert (answer.parts[0].reasoning, answer.text) == ("Two and two.", "Four.")
    assert case.seen.is_thinking


def test_cached_tokens_are_a_class_of_their_own(case: Case):
    usage = {"prompt_tokens": 100, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 60}}
    case.script(Script(usage=usage))
    answer = case.ask("x" * 400)
    assert (answer.prompt_tokens, answer.completion_tokens) == (100, 3)
    assert case.books.of(answer.id).cached_tokens == 60


def test_provider_state_comes_back_with_the_call(case: Case):
    """What OpenAI's own dialect does not have, and a client of it cannot carry."""
    case.script(Script(reasoning="Hm.", tool_calls=(ROME,), signature="c2lnbmVk"), Script(text="Warm."))
    [call] = case.ask("How is Rome?", tools=[WEATHER], reasoning_effort="high").parts[0].calls
    again = ToolCall(call.name, call.arguments, call.id)
    case.ask(replayed(again), tools=[WEATHER], reasoning_effort="high")
    body = case.provider.requests()[-1].body
    assert (b"c2lnbmVk" in body) is (case.dialect != "openai")


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        (400, 400, "upstream_rejected_request"),
        (401, 502, "upstream_auth_failed"),
        (403, 502, "upstream_auth_failed"),
        (404, 502, "upstream_model_unavailable"),
        (413, 413, "request_too_large"),
        (429, 429, "upstream_rate_limited"),
        (500, 502, "upstream_error"),
        (503, 503, "model_overloaded"),
        (529, 503, "model_overloaded"),
    ],
)
def test_errors(client: OpenAI, provider: FakeProvider, books: Books, label: str, dialect, stream, status, told, code):
    provider.script(DIALECTS[dialect], Script(status=status))
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, model=DIALECTS[dialect], stream=stream, extra_headers={"x-request-id": label})
    assert (caught.value.status_code, caught.value.code) == (told, code)
    assert "Scripted" not in caught.value.message
    assert books.of_request(label).charged_microcredits == 0


def test_structured_output_as_a_class(case: Case):
    case.script(Script(text='{"city":"Rome","celsius":21}'))
    chats = case.client.chat.completions
    messages: Any = [{"role": "user", "content": "How is Rome?"}]
    if case.stream:
        with chats.stream(model=case.model, messages=messages, response_format=Weather) as events:
            assert "content.done" in [event.type for event in events]
            parsed = events.get_final_completion().choices[0].message.parsed
    else:
        parsed = chats.parse(model=case.model, messages=messages, response_format=Weather).choices[0].message.parsed
    assert parsed == Weather(city="Rome", celsius=21)


def test_tools_as_classes(case: Case):
    case.script(Script(tool_calls=(ToolCall("Weather", '{"city":"Rome","celsius":21}', "call_1"),)))
    chats = case.client.chat.completions
    messages: Any = [{"role": "user", "content": "How is Rome?"}]
    tools: Any = [openai.pydantic_function_tool(Weather)]
    if case.stream:
        with chats.stream(model=case.model, messages=messages, tools=tools) as events:
            done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
            assert [event.parsed_arguments for event in done] == [Weather(city="Rome", celsius=21)]
            message = events.get_final_completion().choices[0].message
    else:
        message = chats.parse(model=case.model, messages=messages, tools=tools).choices[0].message
    [call] = message.tool_calls or []
    assert call.function.parsed_arguments == Weather(city="Rome", celsius=21)
