"""Audio, on a model of each dialect that hears: as it came where the provider takes it, as WAV where it does not."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.fakes import sounds
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import ask, assert_booked
from tests.live.books import Books

pytestmark = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

HEARING = {"openai": "hearing", "gemini": "gemini"}
WAV = base64.b64encode(sounds.wav(1.0)).decode()


def spoken(data: str, audio_format: str) -> list[dict[str, Any]]:
    part = {"type": "input_audio", "input_audio": {"data": data, "format": audio_format}}
    return [{"role": "user", "content": [{"type": "text", "text": "What do you hear?"}, part]}]


def heard(dialect: str, body: dict[str, Any]) -> tuple[str, str]:
    """Format and base64 of the audio that the provider got."""
    if dialect == "openai":
        [audio] = [part["input_audio"] for part in body["messages"][0]["content"] if part["type"] == "input_audio"]
        return audio["format"], audio["data"]
    [blob] = [part["inlineData"] for part in body["contents"][0]["parts"] if "inlineData" in part]
    return blob["mimeType"].removeprefix("audio/"), blob["data"]


@pytest.mark.parametrize("dialect", list(HEARING))
@pytest.mark.parametrize("audio_format", ["wav", "pcm16"])
def test_audio(client: OpenAI, provider: FakeProvider, books: Books, stream, dialect: str, audio_format: str):
    provider.script(HEARING[dialect], Script(text="A tone."))
    data = WAV if audio_format == "wav" else base64.b64encode(bytes(4800)).decode()
    answer = ask(client, spoken(data, audio_format), model=HEARING[dialect], stream=stream)
    assert answer.text == "A tone."
    assert_booked(books, answer)
    got_format, got = heard(dialect, provider.requests()[-1].json)
    assert got_format == "wav"
    assert (got == data) is (audio_format == "wav")
    assert answer.headers.get("x-request-adaptations") == (None if audio_format == "wav" else "audio=wav")


def test_a_model_without_ears(client: OpenAI, provider: FakeProvider, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, spoken(WAV, "wav"), model="claude", stream=stream)
    assert (caught.value.code, caught.value.param) == ("audio_not_supported_by_model", "messages[0].content[1]")
    assert provider.requests() == []
