"""Answers in JSON over the wire: fences cut, validity told, never a second paid call."""

from __future__ import annotations

from typing import Any

import pytest
from openai import OpenAI

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import Answer, ask, assert_booked
from tests.live.books import Books

pytestmark = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

PLACE: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WANTED: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE}}


def told(answer: Answer) -> object:
    """What an answer says of its validity: a header, or a field of the credits chunk."""
    return answer.extra.get("schema_valid", {"true": True, "false": False}.get(answer.headers.get("x-schema-valid", "")))


@pytest.mark.parametrize(
    ("text", "shown", "valid"),
    [
        ('{"city": "Rome"}', '{"city": "Rome"}', True),
        ('```json\n{"city": "Rome"}\n```', '{"city": "Rome"}', True),
        ('{"town": "Rome"}', '{"town": "Rome"}', False),
        ("In Rome.", "In Rome.", False),
    ],
    ids=["valid", "fenced", "invalid", "prose"],
)
def test_an_answer_is_judged_once(client: OpenAI, provider: FakeProvider, books: Books, stream, text, shown, valid):
    usage = {"prompt_tokens": 11, "completion_tokens": 7}
    provider.script("main", Script(text=text, usage=usage))
    answer = ask(client, response_format=WANTED, stream=stream)
    assert answer.text == shown
    assert told(answer) is valid
    assert len(provider.requests()) == 1
    assert_booked(books, answer)


def test_free_text_is_not_judged(client: OpenAI, provider: FakeProvider, stream):
    provider.script("main", Script(text="```\ncode\n```"))
    answer = ask(client, stream=stream)
    assert answer.text == "```\ncode\n```"
    assert told(answer) is None
