"""Audio, on a model of each dialect that hears: as it came where the provider takes it, as WAV where it does not."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest
from openai import OpenAI

from infery_site.sniffing import sniff
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


STORED = {
    "wav": sounds.wav(1.0),
    "mp3": sounds.encoded("mp3", "libmp3lame"),
    "webm": sounds.encoded("webm", "libopus"),
}


@pytest.mark.slow
@pytest.mark.parametrize("dialect", list(HEARING))
@pytest.mark.parametrize("audio_format", list(STORED))
def test_stored_audio(client: OpenAI, provider: FakeProvider, books: Books, stream, dialect: str, audio_format: str):
    """By the id of its file, as if it had come inline."""
    answer = ask(client, naming(client, audio_format, is_beside=stream), model=HEARING[dialect], stream=stream)
    assert_booked(books, answer)
    got_format, got = heard(dialect, provider.requests()[-1].json)
    is_converted = audio_format == "webm"
    assert sniff(base64.b64decode(got)) == ("audio/mpeg" if audio_format == "mp3" else "audio/wav")
    assert got_format == ("wav" if is_converted else audio_format)
    assert (got == base64.b64encode(STORED[audio_format]).decode()) is not is_converted
    assert answer.headers.get("x-request-adaptations") == ("audio=wav" if is_converted else None)


def naming(client: OpenAI, audio_format: str, *, is_beside: bool = False, data: bytes | None = None) -> list[dict[str, Any]]:
    content = STORED[audio_format] if data is None else data
    file_id = client.files.create(file=(f"a.{audio_format}", content), purpose="user_data").id
    part = {"type": "file", "file_id": file_id} if is_beside else {"type": "file", "file": {"file_id": file_id}}
    return [{"role": "user", "content": [{"type": "text", "text": "What do you hear?"}, part]}]


def test_stored_audio_for_a_model_without_ears(client: OpenAI, provider: FakeProvider, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, naming(client, "wav", is_beside=stream), model="claude", stream=stream)
    assert (caught.value.code, caught.value.param) == ("audio_not_supported_by_model", "messages[0].content[1]")
    assert provider.requests() == []


def test_a_stored_file_that_is_no_audio_whatever_it_begins_like(client: OpenAI, provider: FakeProvider, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, naming(client, "wav", data=STORED["wav"][:20]), model="hearing", stream=stream)
    assert (caught.value.code, caught.value.param) == ("invalid_audio", "messages[0].content[1].file.file_id")
    assert provider.requests() == []


def test_a_model_without_ears(client: OpenAI, provider: FakeProvider, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, spoken(WAV, "wav"), model="claude", stream=stream)
    assert (caught.value.code, caught.value.param) == ("audio_not_supported_by_model", "messages[0].content[1]")
    assert provider.requests() == []
