"""Stored files by reference: read on the server, inline to the provider, and nobody else's."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest
from openai import OpenAI

from infery_site.sniffing import sniff
from tests.fakes import pdfs
from tests.fakes.launch import FakeProvider
from tests.fakes.pictures import picture
from tests.fakes.script import Script
from tests.live import native
from tests.live.answers import ask, assert_booked
from tests.live.books import Books
from tests.live.catalog import DIALECTS
from tests.live.test_python_sdk import png

PDF = pdfs.of_pages(["Nothing."])
UNKNOWN = "file-0123456789abcdefghijklmnopqrstuv"


def asking(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "What does it say?"}, part]}]


def upload(client: OpenAI, data: bytes = PDF, name: str = "a.pdf") -> str:
    return client.files.create(file=(name, data), purpose="user_data").id


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", list(DIALECTS))
@pytest.mark.parametrize("form", ["inside", "beside"])
def test_a_stored_pdf(client: OpenAI, provider: FakeProvider, books: Books, stream, dialect: str, form: str):
    file_id, model = upload(client), DIALECTS[dialect]
    provider.script(model, Script(text="Nothing."))
    part = {"type": "file", "file": {"file_id": file_id}} if form == "inside" else {"type": "file", "file_id": file_id}
    answer = ask(client, asking(part), model=model, stream=stream)
    assert answer.text == "Nothing."
    assert_booked(books, answer)
    body = provider.requests()[-1].json
    assert native.read(dialect, body).documents == (base64.b64encode(PDF).decode(),)
    assert file_id.encode() not in provider.requests()[-1].body


@pytest.mark.parametrize(
    ("which", "param"),
    [
        ("unknown", "messages[0].content[1].file.file_id"),
        ("foreign", "messages[0].content[1].file.file_id"),
        ("deleted", "messages[0].content[1].file.file_id"),
        ("beside", "messages[0].content[1].file_id"),
    ],
    ids=["row-112-unknown", "row-112-foreign", "row-116-deleted", "row-112-beside"],
)
def test_a_file_that_is_not_there(client: OpenAI, keys: dict[str, str], provider: FakeProvider, which: str, param: str):
    file_id = UNKNOWN
    if which == "foreign":
        file_id = upload(client.with_options(api_key=keys["broke"]))
    elif which == "deleted":
        file_id = upload(client)
        client.files.delete(file_id)
    part = {"type": "file", "file_id": file_id} if which == "beside" else {"type": "file", "file": {"file_id": file_id}}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, asking(part))
    assert (caught.value.code, caught.value.param) == ("file_not_found", param)
    with pytest.raises(openai.BadRequestError) as unknown:
        ask(
            client,
            asking({**part, "file_id": UNKNOWN} if which == "beside" else {"type": "file", "file": {"file_id": UNKNOWN}}),
        )
    assert caught.value.response.content == unknown.value.response.content
    assert provider.requests() == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_a_stored_image(client: OpenAI, provider: FakeProvider, books: Books, stream, dialect: str):
    file_id, model = upload(client, png(), "a.png"), DIALECTS[dialect]
    answer = ask(client, asking({"type": "file", "file": {"file_id": file_id}}), model=model, stream=stream)
    assert_booked(books, answer)
    seen = native.read(dialect, provider.requests()[-1].json)
    assert (seen.images, seen.documents) == ((base64.b64encode(png()).decode(),), ())
    assert "x-request-adaptations" not in answer.headers


def test_a_stored_image_for_a_model_that_does_not_see(client: OpenAI, provider: FakeProvider):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, asking({"type": "file", "file_id": upload(client, png(), "a.png")}), model="plain")
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "messages[0].content[1]")
    assert provider.requests() == []


def test_a_stored_file_that_is_no_image_whatever_it_begins_like(client: OpenAI, provider: FakeProvider):
    file_id = upload(client, png()[:40], "a.png")
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, asking({"type": "file", "file": {"file_id": file_id}}))
    assert (caught.value.code, caught.value.param) == ("invalid_image", "messages[0].content[1].file.file_id")
    assert provider.requests() == []


GIF = picture("GIF", mode="L")


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("form", ["image_url", "file_id"])
@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_a_gif_is_converted_where_the_provider_takes_none(
    client: OpenAI, provider: FakeProvider, books: Books, dialect: str, form: str, stream
):
    encoded = base64.b64encode(GIF).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{encoded}"}}
    if form == "file_id":
        part = {"type": "file", "file_id": upload(client, GIF, "a.gif")}
    answer = ask(client, asking(part), model=DIALECTS[dialect], stream=stream)
    assert_booked(books, answer)
    [image] = native.read(dialect, provider.requests()[-1].json).images
    if dialect == "gemini":
        assert sniff(base64.b64decode(image)) == "image/png"
        assert answer.headers["x-request-adaptations"] == "image=converted"
    else:
        assert image == encoded
        assert "x-request-adaptations" not in answer.headers


def test_row_110_a_stored_file_that_no_model_reads(client: OpenAI, provider: FakeProvider):
    file_id = upload(client, b"Some text.", "a.txt")
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, asking({"type": "file", "file": {"file_id": file_id}}))
    assert caught.value.code == "unsupported_file_type"
    assert provider.requests() == []
