"""A chain that leads from one dialect to another, and streams that break: the client sees one shape."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import openai
import pytest
from openai import OpenAI

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script, ToolCall
from tests.live import native
from tests.live.answers import ask, assert_booked
from tests.live.books import Books
from tests.live.catalog import CHAINS, DIALECTS
from tests.live.test_dialects import ROME, WEATHER, replayed
from tests.live.test_python_sdk import png

both_modes = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

PNG = base64.b64encode(png()).decode()
DIALECT_OF = {model: dialect for dialect, model in DIALECTS.items()}
USAGE = {"prompt_tokens": 40, "completion_tokens": 6}


def conversation() -> list[dict[str, Any]]:
    """Tools, their results and an image, as another model left them."""
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    question = {"role": "user", "content": [{"type": "text", "text": "And here?"}, image]}
    return [{"role": "system", "content": "Be brief."}, *replayed(ROME), {"role": "assistant", "content": "Warm."}, question]


@both_modes
@pytest.mark.parametrize("failures", [1, 2])
@pytest.mark.parametrize("source", ["leaves-openai", "leaves-anthropic", "leaves-gemini"])
def test_the_next_dialect_serves(client: OpenAI, provider: FakeProvider, books: Books, stream, source: str, failures: int):
    models = [source, *CHAINS[source]]
    for model in models[:failures]:
        provider.script(model, Script(status=503))
    serving = models[failures]
    provider.script(serving, Script(tool_calls=(ToolCall("get_weather", '{"city":"Oslo"}', "call_2"),), usage=USAGE))
    answer = ask(client, conversation(), model=source, tools=[WEATHER], stream=stream)
    assert (answer.model, answer.headers["x-model-used"]) == (serving, serving)
    assert (answer.headers["x-fallback-from"], answer.headers["x-fallback-depth"]) == (source, str(failures))
    [call] = answer.parts[0].calls
    assert (call.name, msgspec.json.decode(call.arguments)) == ("get_weather", {"city": "Oslo"})
    assert answer.parts[0].finish_reason == "tool_calls"
    assert (answer.prompt_tokens, answer.completion_tokens) == (40, 6)
    assert assert_booked(books, answer).results == ("model_overloaded",) * failures + ("served",)
    seen = native.read(DIALECT_OF[serving], provider.requests()[-1].json)
    assert (seen.system, seen.images, seen.results, seen.tools) == ("Be brief.", (PNG,), ("21 degrees",), ("get_weather",))
    assert [(name, msgspec.json.decode(arguments)) for name, arguments in seen.calls] == [("get_weather", {"city": "Rome"})]


@pytest.mark.slow
@pytest.mark.parametrize("dialect", list(DIALECTS))
@pytest.mark.parametrize("how", ["fin", "rst", "error"])
def test_a_stream_that_breaks_at_any_event(client: OpenAI, provider: FakeProvider, books: Books, dialect: str, how: Any):
    """Before content it is a failure, after it the delivered part counts, and no break looks like an end."""
    model, whole = DIALECTS[dialect], "One two three."
    provider.script(model, Script(text=whole))
    ask(client, model=model, stream=True)
    [seen] = provider.requests()
    outcomes = []
    for place in range(seen.events_sent):
        broken = Script(text=whole, error_after=place) if how == "error" else Script(text=whole, cut_after=place, cut_with=how)
        provider.script(model, broken)
        outcomes.append(outcome_of(client, books, model, whole))
    assert outcomes[0] == "failed"
    assert set(outcomes) == {"failed", "broken", "ended"} or set(outcomes) == {"failed", "broken"}
    assert outcomes == sorted(outcomes, key=["failed", "broken", "ended"].index)
    assert outcomes.count("ended") <= 2, "only what comes after the finish reason may be missing"


def outcome_of(client: OpenAI, books: Books, model: str, whole: str) -> str:
    """How one stream went: `failed` before content, `broken` after some, or `ended`."""
    text, generation, failure = "", "", None
    try:
        for chunk in client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Count."}], stream=True):
            generation = chunk.id
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    except openai.APIError as error:
        failure = error
    if failure is None:
        assert text == whole
        return "ended"
    if isinstance(failure, openai.APIStatusError):
        assert failure.status_code in {502, 503, 504}
        return "failed"
    assert text
    assert whole.startswith(text)
    assert failure.code in {"upstream_error", "model_overloaded", "upstream_invalid_response"}
    booked = books.of(generation)
    assert booked.end_state == "cut"
    assert 0 < booked.charged_microcredits == booked.entry_microcredits
    return "broken"
