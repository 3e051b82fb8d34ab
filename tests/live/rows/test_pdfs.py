"""Rows 117 to 127, and of 101 to 116 what happens in chat: PDFs, stored files and audio that cannot be used, or can."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.fakes import pdfs, sounds
from tests.fakes.launch import FakeProvider
from tests.fakes.pdf_bombs import BOMBS, CONVERTED, ODD
from tests.fakes.script import Script
from tests.live import native
from tests.live.books import Books
from tests.live.gateway import Server
from tests.live.rows.raw import Post, chat
from tests.live.rows.refusals import assert_free, assert_refused

PART = "messages[0].content[0]"
FIELD = f"{PART}.file.file_data"
MEGABYTE = 1024 * 1024
UNKNOWN = "file-0123456789abcdefghijklmnopqrstuv"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def inline(data: bytes) -> dict[str, Any]:
    uri = f"data:application/pdf;base64,{encoded(data)}"
    return {"type": "file", "file": {"file_data": uri, "filename": "a.pdf"}}


def saying(*parts: dict[str, Any], model: str = "seeing", **fields: Any) -> bytes:
    return chat(model=model, messages=[{"role": "user", "content": list(parts)}], **fields)


def of(*numbers: int, is_fine: bool) -> list[Any]:
    """The odd ones of these rows that are always converted, or the others. One is no PDF at all, by how it begins."""
    return [
        pytest.param(data, allowed, id=f"row-{name}")
        for name, (data, allowed) in ODD.items()
        if name.startswith(tuple(f"{number}-" for number in numbers)) and name != "117-not-at-the-start"
        if (allowed == {CONVERTED}) is is_fine
    ]


@pytest.fixture
def stored(http: httpx.Client) -> Iterator[Any]:
    """Uploads a file, and takes it away afterwards."""
    kept = []

    def upload(data: bytes, name: str = "a.pdf") -> str:
        made = http.post("/files", files={"file": (name, data)}, data={"purpose": "user_data"})
        assert made.status_code == 200, made.text
        kept.append(made.json()["id"])
        return str(kept[-1])

    yield upload
    for one in kept:
        http.delete(f"/files/{one}")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["seeing", "reading"])
@pytest.mark.parametrize(("data", "codes"), of(117, 118, 119, 120, 121, 123, is_fine=False))
def test_a_pdf_is_refused(
    post: Post, provider: FakeProvider, books: Books, label: str, data: bytes, codes: set[str], model: str
):
    """By a model that would get it as it is, too."""
    sent = saying(inline(data), model=model)
    answer = post(sent)
    code = answer.json()["error"]["code"]
    assert code in codes
    assert_refused(answer, 400, code, FIELD, label=label, sent=sent)
    assert provider.requests() == []
    assert assert_free(books, label, 400, code).holds == ()


@pytest.mark.parametrize(("data", "codes"), of(122, is_fine=False))
def test_a_page_of_another_size_is_refused_or_shown(post: Post, provider: FakeProvider, data: bytes, codes: set[str]):
    answer = post(saying(inline(data)))
    if answer.status_code == 200:
        assert CONVERTED in codes
        assert len(native.read("openai", provider.requests()[-1].json).images) == 1
    else:
        code = answer.json()["error"]["code"]
        assert code in codes
        assert_refused(answer, 400, code, FIELD)
        assert provider.requests() == []


@pytest.mark.slow
@pytest.mark.parametrize(("data", "codes"), of(118, 119, 122, 125, 126, is_fine=True))
def test_a_pdf_is_converted_as_a_plain_page(post: Post, provider: FakeProvider, data: bytes, codes: set[str]):
    answer = post(saying(inline(data)))
    assert answer.status_code == 200
    assert answer.headers["x-request-adaptations"] == "pdf=text+pages:1"
    seen = native.read("openai", provider.requests()[-1].json)
    assert (len(seen.images), seen.documents) == (1, ())
    assert codes == {CONVERTED}


@pytest.mark.parametrize("name", ["117-120-bytes", "120-101-pages", "122-a-million-points"])
def test_a_stored_pdf_is_refused_under_the_field_that_names_it(post: Post, stored: Any, name: str):
    """An upload of it is fine."""
    data, codes = ODD[name]
    answer = post(saying({"type": "file", "file": {"file_id": stored(data)}}))
    [code] = codes
    assert_refused(answer, 400, code, f"{PART}.file.file_id")


def goes_off(post: Post, body: bytes, codes: set[str]) -> None:
    answer = post(body)
    if answer.status_code != 200:
        assert_refused(answer, 400, answer.json()["error"]["code"], FIELD)
    assert (CONVERTED if answer.status_code == 200 else answer.json()["error"]["code"]) in codes | {"pdf_conversion_failed"}


@pytest.mark.parametrize("name", [pytest.param("124-a-form-in-itself", id="row-124-a-form-in-itself")])
def test_a_bomb_goes_off_in_the_sandbox(post: Post, name: str):
    make, codes = BOMBS[name]
    goes_off(post, saying(inline(make())), codes)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [pytest.param(name, id=f"row-{name}") for name in BOMBS])
def test_a_bomb_keeps_nobody_waiting(server: Server, keys: dict[str, str], provider: FakeProvider, name: str):
    """The one worker answers others meanwhile."""
    make, codes = BOMBS[name]
    body = saying(inline(make()))
    headers = {"authorization": f"Bearer {keys['acme']}", "content-type": "application/json"}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=120, trust_env=False) as client:

        def post(content: bytes) -> httpx.Response:
            return client.post("/chat/completions", content=content)

        with ThreadPoolExecutor(1) as pool:
            bomb = pool.submit(goes_off, post, body, codes)
            answered = 0
            while not bomb.done():
                assert post(chat()).status_code == 200
                answered += 1
            bomb.result()
    assert answered > 0


TWENTY_FIVE = pdfs.of_pages([f"Page {number}" for number in range(25)])


@pytest.mark.parametrize("status", [pytest.param(200, id="row-127-taken"), pytest.param(413, id="row-127-too-large")])
def test_a_pdf_goes_to_a_model_that_reads_it_whatever_its_provider_takes(post: Post, provider: FakeProvider, status: int):
    """Where that finds it too large, the client is told."""
    provider.script("reading", Script(status=status))
    answer = post(saying(inline(TWENTY_FIVE), model="reading"))
    if status == 413:
        assert_refused(answer, 413, "request_too_large")
    else:
        assert answer.status_code == 200
    assert native.read("openai", provider.requests()[-1].json).documents == (encoded(TWENTY_FIVE),)


# Files and audio


@pytest.mark.parametrize("megabytes", [pytest.param((21,), id="row-101-one"), pytest.param((18, 18, 18), id="row-101-all")])
def test_more_than_a_request_may_bring(post: Post, stored: Any, provider: FakeProvider, megabytes: tuple[int, ...]):
    ids = [stored(pdfs.of_pages([f"{number}"]) + bytes(size * MEGABYTE)) for number, size in enumerate(megabytes)]
    parts = [{"type": "file", "file": {"file_id": one}} for one in ids]
    answer = post(saying(*parts, model="reading"))
    assert_refused(answer, 413, "request_too_large", f"messages[0].content[{len(parts) - 1}].file.file_id")
    assert provider.requests() == []


@pytest.mark.parametrize(
    ("data", "audio_format"),
    [
        pytest.param(b"nothing of it", "wav", id="row-102-bytes"),
        pytest.param(sounds.wav(), "mp3", id="row-102-another-format"),
        pytest.param(b"", "wav", id="row-102-empty"),
        pytest.param(sounds.wav()[:22] + b"\xff\xff" + sounds.wav()[24:], "wav", id="row-103-65535-channels"),
        pytest.param(sounds.wav()[:40] + b"\xff\xff\xff\x7f" + sounds.wav()[44:], "wav", id="row-103-hours"),
    ],
)
def test_audio_is_refused(post: Post, provider: FakeProvider, books: Books, label: str, data: bytes, audio_format: str):
    sent = saying({"type": "input_audio", "input_audio": {"data": encoded(data), "format": audio_format}}, model="hearing")
    answer = post(sent)
    assert_refused(answer, 400, "invalid_audio", f"{PART}.input_audio.data", label=label, sent=sent)
    assert provider.requests() == []
    assert assert_free(books, label, 400, "invalid_audio").holds == ()


@pytest.mark.parametrize(
    "source",
    [
        pytest.param({}, id="row-114-neither"),
        pytest.param({"file_data": "AAAA", "file_id": UNKNOWN}, id="row-114-both"),
        pytest.param({"file_data": "AAAA", "data": "AAAA"}, id="row-114-twice"),
    ],
)
def test_a_file_is_given_in_one_way(post: Post, books: Books, label: str, source: dict[str, str]):
    sent = saying({"type": "file", "file": source})
    assert_refused(post(sent), 400, "conflicting_parameters", PART, label=label, sent=sent)
    assert assert_free(books, label, 400, "conflicting_parameters").holds == ()


@pytest.mark.parametrize("how", [pytest.param("uri", id="row-117-uri"), pytest.param("declared", id="row-117-declared")])
def test_an_empty_pdf(post: Post, how: str):
    source = (
        {"file_data": "data:application/pdf;base64,"} if how == "uri" else {"file_data": "", "mime_type": "application/pdf"}
    )
    assert_refused(post(saying({"type": "file", "file": source})), 400, "invalid_pdf", FIELD)


@pytest.mark.slow
@pytest.mark.parametrize("times", [pytest.param(8, id="row-116")])
def test_a_file_that_is_deleted_while_chats_use_it(http: httpx.Client, stored: Any, provider: FakeProvider, times: int):
    """Each chat has all of it, or is told that it is not there."""
    for number in range(times):
        file_id = stored(pdfs.of_pages([f"Deleted {number}"]))
        body = saying({"type": "file", "file": {"file_id": file_id}}, model="reading")
        headers = {"content-type": "application/json"}
        with ThreadPoolExecutor(4) as pool:
            chats = [pool.submit(http.post, "/chat/completions", content=body, headers=headers) for _ in range(3)]
            assert http.delete(f"/files/{file_id}").status_code == 200
            answers = [one.result() for one in chats]
        told = {answer.json()["error"]["code"] for answer in answers if answer.status_code != 200}
        assert told <= {"file_not_found"}
        assert {answer.status_code for answer in answers} <= {200, 400}
