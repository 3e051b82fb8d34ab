"""Media by reference and of other kinds: fetched images, audio, PDFs; each judged once, each in one shape."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from billing.limits import Limiter
from chat.content import FETCHES_PER_MINUTE, MAX_CONTENT_BYTES, MAX_URLS, URLS_AT_ONCE, Resolver
from chat.content.room import Room
from chat.decode import decode
from chat.schema.content import Audio, Content, Image
from chat.schema.request import AudioPart, ImagePart, ImageUrl
from files.documents import Documents
from files.models import StoredFile
from files.sandbox import Sandbox
from infery_site.errors import ApiError
from tests.fakes import sounds
from tests.unit.chat.rows.bodies import said
from tests.unit.chat.test_content import JPEG, PNG, data_uri
from tests.unit.chat.values import model, route
from tests.unit.infery_site.fetch.strangers import Stranger, World, answer, redirect

MEGABYTE = 1024 * 1024
PDF = b"%PDF-1.7\n%%EOF\n"
PDF_TEXT = base64.b64encode(PDF).decode()
PDF_URI = f"data:application/pdf;base64,{PDF_TEXT}"


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    async with Stranger() as started:
        yield started


@pytest.fixture
def world(stranger: Stranger) -> World:
    stranger.pages["/a.png"] = answer(PNG)
    return World(stranger)


@pytest.fixture
async def resolver(world: World) -> AsyncIterator[Resolver]:
    sandbox, limiter = Sandbox(), Limiter(workers=1, redis_url="")
    yield Resolver(world.fetcher(), limiter, sandbox, Documents(sandbox))
    await limiter.stop()


async def resolved(resolver: Resolver, *parts: dict[str, Any], workspace_id: int = 1) -> Content:
    asked = decode(said({"role": "user", "content": list(parts)}), is_strict=False).chat
    return await resolver.resolve(asked, route(model()), Room().stay(workspace_id))


async def refused(resolver: Resolver, *parts: dict[str, Any], workspace_id: int = 1) -> tuple[int, str, str | None]:
    with pytest.raises(ApiError) as caught:
        await resolved(resolver, *parts, workspace_id=workspace_id)
    return caught.value.status, caught.value.code, caught.value.param


def picture(url: str, **fields: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def audio(data: bytes, audio_format: str) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": audio_format}}


def file(**fields: Any) -> dict[str, Any]:
    return {"type": "file", "file": fields}


async def test_an_image_by_url_goes_out_inline(resolver: Resolver, stranger: Stranger):
    stranger.pages["/a.png"] = redirect("http://elsewhere.example/b.png")
    stranger.pages["/b.png"] = answer(PNG)
    content = await resolved(resolver, {"type": "text", "text": "?"}, picture("http://pictures.example/a.png", detail="low"))
    assert content.images == {(0, 1): Image("image/png", 31, 17, len(PNG))}
    assert content.parts == {(0, 1): ImagePart(ImageUrl(data_uri(PNG), "low"))}


async def test_what_the_bytes_are_counts_and_not_what_the_server_says(resolver: Resolver, stranger: Stranger):
    stranger.pages["/a.png"] = answer(JPEG)
    content = await resolved(resolver, picture("http://pictures.example/a.png"))
    assert content.parts[0, 0] == ImagePart(ImageUrl(data_uri(JPEG, "image/jpeg")))


@pytest.mark.parametrize(
    ("url", "code"),
    [
        pytest.param("file:///etc/passwd", "invalid_image_url", id="row-83"),
        pytest.param("ftp://pictures.example/a.png", "invalid_image_url", id="row-83-ftp"),
        pytest.param("http://127.0.0.1/a.png", "invalid_image_url", id="row-84"),
        pytest.param("http://0x7f000001/a.png", "invalid_image_url", id="row-85"),
        pytest.param("http://[::ffff:127.0.0.1]/a.png", "invalid_image_url", id="row-86"),
        pytest.param("http://inside.example/a.png", "invalid_image_url", id="row-87"),
        pytest.param("http://pictures.example/away", "invalid_image_url", id="row-88"),
        pytest.param("http://user@pictures.example/a.png", "invalid_image_url", id="row-90"),
        pytest.param("http://pictures.example/missing", "image_fetch_failed", id="row-91"),
        pytest.param("http://pictures.example/zipped", "image_fetch_failed", id="row-93"),
        pytest.param("http://pictures.example/page", "unsupported_image_format", id="row-94"),
        pytest.param("http://pictures.example/cut", "invalid_image", id="row-95"),
    ],
)
async def test_a_url_that_gives_no_image(resolver: Resolver, stranger: Stranger, world: World, url, code):
    world.names["inside.example"] = ["10.0.0.1"]
    stranger.pages |= {
        "/away": redirect("http://169.254.169.254/"),
        "/missing": answer(b"", status="404 Not Found"),
        "/zipped": answer(PNG, headers=["Content-Type: image/png", "Content-Encoding: gzip"]),
        "/page": answer(b"<html></html>", headers=["Content-Type: text/html"]),
        "/cut": answer(PNG[:20]),
    }
    assert await refused(resolver, picture(url)) == (400, code, "messages[0].content[0].image_url.url")


async def test_the_first_of_several_bad_urls_is_named(resolver: Resolver):
    parts = [
        picture("http://pictures.example/a.png"),
        picture("http://127.0.0.1/"),
        picture("file:///x"),
        picture("http://[::1]/"),
    ]
    assert (await refused(resolver, *parts))[2] == "messages[0].content[1].image_url.url"


async def test_row_98_more_urls_than_are_fetched(resolver: Resolver, world: World):
    urls = [picture("http://pictures.example/a.png")] * (MAX_URLS + 1)
    assert await refused(resolver, *urls) == (400, "too_many_images", "messages")
    assert world.dialled == []


async def test_row_101_of_images_that_are_too_much_together_no_more_are_fetched(
    resolver: Resolver, stranger: Stranger, world: World
):
    stranger.pages["/a.png"] = answer(PNG + bytes(8 * MEGABYTE))
    urls = [picture("http://pictures.example/a.png")] * MAX_URLS
    status, code, _ = await refused(resolver, *urls)
    assert (status, code) == (413, "request_too_large")
    assert len(world.dialled) <= MAX_CONTENT_BYTES // (8 * MEGABYTE) + URLS_AT_ONCE


async def test_row_101_files_that_are_too_much_together_are_not_read(resolver: Resolver, transactional_db, acme):
    """Not even once: the store does not have them, and nobody sees that."""
    fields = {"filename": "a.pdf", "media_type": "application/pdf", "purpose": "user_data", "sha256": "0" * 64}
    stored = await StoredFile.objects.acreate(
        workspace=acme.workspace, size_bytes=15 * MEGABYTE, state="ready", store_name="none", **fields
    )
    part = file(file_id=stored.public_id)
    field = "messages[0].content[3].file.file_id"
    assert await refused(resolver, *[part] * 400, workspace_id=acme.workspace.pk) == (413, "request_too_large", field)
    one = await refused(resolver, part, workspace_id=acme.workspace.pk)
    assert one[:2] == (503, "storage_unavailable")


async def test_no_host_is_flooded_by_one_workspace(resolver: Resolver, world: World):
    batch = [picture("http://pictures.example/a.png")] * MAX_URLS
    world.names["pictures.example"] = ["93.184.216.34"]
    for _ in range(FETCHES_PER_MINUTE // MAX_URLS):
        await resolved(resolver, *batch)
    status, code, _ = await refused(resolver, *batch)
    assert (status, code) == (429, "rate_limit_exceeded")
    assert len(world.dialled) <= FETCHES_PER_MINUTE + 1  # a minute may just have begun
    world.names |= {"others.example": ["93.184.216.99"], "another.example": ["93.184.216.98", *world.names["pictures.example"]]}
    await resolved(resolver, picture("http://others.example/a.png"))
    await resolved(resolver, picture("http://pictures.example/a.png"), workspace_id=2)
    status, code, _ = await refused(resolver, *[picture("http://another.example/a.png")] * 2)
    assert (status, code) == (429, "rate_limit_exceeded"), "by another name"


async def test_an_ipv6_network_is_one_stranger(resolver: Resolver, world: World):
    for number in range(FETCHES_PER_MINUTE // MAX_URLS + 1):
        world.names[f"pictures-{number}.example"] = [f"2606:4700::{number + 1:x}"]
        batch = [picture(f"http://pictures-{number}.example/a.png")] * MAX_URLS
        if number < FETCHES_PER_MINUTE // MAX_URLS:
            await resolved(resolver, *batch)
        else:
            assert (await refused(resolver, *batch))[:2] == (429, "rate_limit_exceeded")


async def test_a_client_that_leaves_ends_its_fetches(resolver: Resolver, stranger: Stranger):
    async def hang(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    stranger.pages["/a.png"] = hang
    task = asyncio.create_task(resolved(resolver, picture("http://pictures.example/a.png")))
    await stranger.is_asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_wav_goes_as_it_came(resolver: Resolver):
    data = sounds.wav(2.0)
    content = await resolved(resolver, audio(data, "wav"))
    assert content.audio == {(0, 0): Audio("wav", 2, len(data))}
    assert content.parts == {}


async def test_raw_samples_become_wav(resolver: Resolver):
    samples = bytes(48_000)
    content = await resolved(resolver, audio(samples, "pcm16"))
    assert content.audio == {(0, 0): Audio("pcm16", 1, len(samples))}
    part = content.parts[0, 0]
    assert isinstance(part, AudioPart)
    assert part.input_audio.format == "wav"
    wav = base64.b64decode(part.input_audio.data)
    assert (wav[:4], wav[8:12], wav[-len(samples) :]) == (b"RIFF", b"WAVE", samples)


async def test_webm_becomes_wav(resolver: Resolver):
    content = await resolved(resolver, audio(sounds.encoded("webm", "libopus", 1.5, 48_000, 1), "webm"))
    part = content.parts[0, 0]
    assert isinstance(part, AudioPart)
    assert base64.b64decode(part.input_audio.data).startswith(b"RIFF")


@pytest.mark.slow
async def test_what_audio_becomes_has_its_room(resolver: Resolver):
    """From before it is heard, because nobody knows then how much it will be, until the answer is there."""
    room = Room()
    with room.stay(1) as stay:
        asked = decode(said({"role": "user", "content": [audio(sounds.long_webm(590), "webm")]}), is_strict=False).chat
        content = await resolver.resolve(asked, route(model()), stay)
        part = content.parts[0, 0]
        assert isinstance(part, AudioPart)
        assert room._taken[1] >= len(part.input_audio.data) // 4 * 3
    assert room._taken[1] == 0


@pytest.mark.slow
async def test_row_101_audio_counts_as_what_it_is_converted_to(resolver: Resolver):
    """A small recording becomes much WAV: ten minutes 19 MB."""
    long = audio(sounds.long_webm(590), "webm")
    assert len((await resolved(resolver, long, long)).parts) == 2
    field = "messages[0].content[2].input_audio.data"
    assert await refused(resolver, *[long] * 40) == (413, "request_too_large", field)


@pytest.mark.parametrize(
    ("data", "audio_format"),
    [(b"nothing of it", "wav"), (sounds.wav(), "mp3"), (b"\x1a\x45\xdf\xa3" + bytes(50), "webm"), (b"\0", "pcm16")],
    ids=["row-102-bytes", "row-102-other", "row-103", "row-102-half-a-sample"],
)
async def test_audio_that_is_none(resolver: Resolver, data, audio_format):
    assert await refused(resolver, audio(data, audio_format)) == (
        400,
        "invalid_audio",
        "messages[0].content[0].input_audio.data",
    )


async def test_audio_that_is_no_base64(resolver: Resolver):
    part = {"type": "input_audio", "input_audio": {"data": "!!!!", "format": "wav"}}
    assert await refused(resolver, part) == (400, "invalid_audio", "messages[0].content[0].input_audio.data")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({}, "conflicting_parameters", id="row-114-neither"),
        pytest.param({"file_data": PDF_URI, "file_id": "file-1"}, "conflicting_parameters", id="row-114-both"),
        pytest.param({"file_data": PDF_URI, "data": PDF_TEXT}, "conflicting_parameters", id="row-114-twice"),
        pytest.param({"file_data": ""}, "empty_file", id="row-106"),
        pytest.param({"file_data": "data:application/pdf;base64,"}, "invalid_pdf", id="row-117-uri"),
        pytest.param({"data": "", "mime_type": "application/pdf"}, "invalid_pdf", id="row-117-declared"),
        pytest.param({"file_data": data_uri(PNG)}, "unsupported_file_type", id="row-110"),
        pytest.param({"file_data": base64.b64encode(b"MZ" + bytes(99)).decode()}, "unsupported_file_type", id="row-110-exe"),
        pytest.param({"file_data": data_uri(PDF, "image/png")}, "mime_mismatch", id="row-110-uri"),
        pytest.param({"file_data": PDF_URI, "mime_type": "image/png"}, "mime_mismatch", id="row-110-declared"),
        pytest.param({"file_data": "data:application/pdf,AAAA"}, "invalid_data_uri", id="row-100"),
        pytest.param({"file_data": "%%%%"}, "invalid_data_uri", id="row-100-bare"),
    ],
)
async def test_a_file_that_cannot_be_used(resolver: Resolver, fields, code):
    status, told, param = await refused(resolver, file(**fields))
    assert (status, told) == (400, code)
    assert (param or "").startswith("messages[0].content[0]")
