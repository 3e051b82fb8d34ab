"""What a server answers is what its `/openapi.json` says: chats, whole and streamed, and files; see `tests/api/conftest.py` for the rest."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests import described
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script, ToolCall

SCRIPTS = {
    "text": Script(text="Yes."),
    "reasoning": Script(text="Yes.", reasoning="Let me see."),
    "calls": Script(text="", tool_calls=(ToolCall("look"),)),
    "refusal": Script(text="", refusal="No."),
    "by-the-chain": Script(status=500),
}
TOOLS = [{"type": "function", "function": {"name": "look"}}]
ASKED = {"model": "first", "messages": [{"role": "user", "content": "Hello"}]}


def is_told(answer: httpx.Response) -> bool:
    request = answer.request
    kind = answer.headers.get("content-type", "")
    return described.check(request.method, request.url.path, answer.status_code, kind, answer.content)


def of(name: str) -> Any:
    return described.of_answer({"$ref": f"#/components/schemas/{name}"})


def events(answer: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("more", [{}, {"n": 2}, {"logprobs": True}, {"user": "ada", "store": True}])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_whole_answer(http: httpx.Client, provider: FakeProvider, script, more):
    provider.script("first", SCRIPTS[script])
    answer = http.post("/chat/completions", json={**ASKED, "tools": TOOLS, **more})
    assert answer.status_code == 200, answer.text
    assert is_told(answer)
    assert {"x-model-used", "x-credits-used", "server-timing"} <= set(answer.headers) & set(told_headers())


def told_headers() -> set[str]:
    return set(described.told()["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["headers"])


def test_a_quote(http: httpx.Client, provider: FakeProvider):
    answer = http.post("/chat/completions", params={"dry_run": "true"}, json=ASKED)
    assert answer.json()["object"] == "chat.completion.quote"
    assert is_told(answer)


@pytest.mark.parametrize("options", [None, {"include_usage": True}])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_stream(http: httpx.Client, provider: FakeProvider, script, options):
    provider.script("first", SCRIPTS[script])
    answer = http.post("/chat/completions", json={**ASKED, "tools": TOOLS, "stream": True, "stream_options": options})
    *chunks, credits = events(answer)
    assert len(chunks) >= 2
    for chunk in chunks:
        of("CompletionChunk").validate(chunk)
    of("CreditsChunk").validate(credits)


def test_a_stream_that_breaks_off(http: httpx.Client, provider: FakeProvider):
    provider.script("first", Script(text="Yes and no.", times=40, cut_after=5))
    answer = http.post("/chat/completions", json={**ASKED, "stream": True})
    *chunks, error = [
        json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line.startswith("data: ")
    ]
    for chunk in chunks:
        of("CompletionChunk").validate(chunk)
    of("ApiError").validate(error)


@pytest.mark.slow
def test_a_stream_that_was_opened_by_a_comment(http: httpx.Client, provider: FakeProvider):
    """The credits chunk tells what the head could not."""
    provider.script("slow", Script(text="Yes.", delay_head_s=2.5))
    answer = http.post("/chat/completions", json={**ASKED, "model": "slow", "stream": True})
    *_, credits = events(answer)
    assert credits["model_used"] == "slow"
    of("CreditsChunk").validate(credits)


@pytest.mark.parametrize("asked", [{"model": "nobody"}, {"messages": []}, {"temperature": 3}])
def test_a_refusal(http: httpx.Client, provider: FakeProvider, asked):
    answer = http.post("/chat/completions", json={**ASKED, **asked})
    assert answer.status_code in {400, 404}
    assert is_told(answer)


def test_files(http: httpx.Client):
    made = http.post("/files", files={"file": ("notes.txt", b"Some text.")}, data={"purpose": "user_data"})
    assert made.status_code == 200, made.text
    place = f"/files/{made.json()['id']}"
    answers = [made, http.get("/files"), http.get(place), http.get(f"{place}/content"), http.delete(place), http.get(place)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 200, 404]
    assert all(is_told(answer) for answer in answers)


def test_models(http: httpx.Client):
    for path in ("/models", "/models/first", "/models/nobody"):
        assert is_told(http.get(path))
