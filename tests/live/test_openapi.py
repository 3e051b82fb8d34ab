"""What a server answers is what its `/openapi.json` says: chats, whole and streamed, and files; see `tests/api/conftest.py` for the rest."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests import described
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script

TOOLS = [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
ASKED = {"model": "first", "messages": [{"role": "user", "content": "Hello"}]}


def is_told(answer: httpx.Response) -> bool:
    request = answer.request
    kind = answer.headers.get("content-type", "")
    return described.check(request.method, request.url.path, answer.status_code, kind, answer.content)


def events(answer: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("more", [{}, {"n": 2}, {"logprobs": True}, {"user": "ada", "store": True}])
def test_a_whole_answer(http: httpx.Client, provider: FakeProvider, more):
    answer = http.post("/chat/completions", json={**ASKED, **more})
    assert answer.status_code == 200, answer.text
    assert is_told(answer)


def test_a_quote(http: httpx.Client, provider: FakeProvider):
    answer = http.post("/chat/completions", params={"dry_run": "true"}, json=ASKED)
    assert answer.json()["object"] == "chat.completion.quote"
    assert is_told(answer)


@pytest.mark.parametrize("options", [None, {"include_usage": True}])
@pytest.mark.parametrize("script", [Script(text="Yes."), Script(status=500)], ids=["served", "by-the-chain"])
def test_a_stream(http: httpx.Client, provider: FakeProvider, script, options):
    provider.script("first", script)
    answer = http.post("/chat/completions", json={**ASKED, "stream": True, "stream_options": options})
    *chunks, credits = events(answer)
    assert len(chunks) > 2
    for chunk in chunks:
        described.validator({"$ref": "#/components/schemas/CompletionChunk"}).validate(chunk)
    described.validator({"$ref": "#/components/schemas/CreditsChunk"}).validate(credits)


@pytest.mark.parametrize("asked", [{"model": "nobody"}, {"messages": []}, {"temperature": 3}])
def test_a_refusal(http: httpx.Client, provider: FakeProvider, asked):
    answer = http.post("/chat/completions", json={**ASKED, **asked})
    assert answer.status_code in {400, 404}
    assert is_told(answer)


def test_files(http: httpx.Client):
    made = http.post("/files", files={"file": ("notes.txt", b"Some text.")}, data={"purpose": "user_data"})
    assert made.status_code == 200, made.text
    place = f"/files/{made.json()['id']}"
    answers = [made, http.get("/files"), http.get(place), http.delete(place), http.get(place)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404]
    assert all(is_told(answer) for answer in answers)


def test_models(http: httpx.Client):
    for path in ("/models", "/models/first", "/models/nobody"):
        assert is_told(http.get(path))
