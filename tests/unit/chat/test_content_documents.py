"""PDFs and images of a request, as far as some model or provider of its route does not take them as they came."""

from __future__ import annotations

import base64
import io
from typing import Any

import msgspec
import pytest
from PIL import Image as Pillow

from billing.limits import Limiter
from billing.models import Workspace
from chat.adapt import MOST_IMAGE_BYTES
from chat.content import Resolver, prepared
from chat.content.room import Room
from chat.decode import decode
from chat.schema.content import Content, Document
from chat.schema.request import FilePart, FileSource, ImagePart
from chat.schema.route import ModelInfo
from files.documents import Documents
from files.sandbox import Sandbox
from infery_site.errors import ApiError
from infery_site.fetch import Fetcher
from tests.fakes import pdfs
from tests.fakes.pictures import picture
from tests.unit.chat.rows.bodies import said
from tests.unit.chat.test_content import GIF, data_uri
from tests.unit.chat.values import EVERYTHING, PROVIDER, model, route, target
from tests.unit.files.documents.reading import FailingSandbox

TWO = pdfs.of_pages(["First", "Second"])
LETTER = (1583, 2048)
READING = model("reading", EVERYTHING | {"pdf"})
SEEING = model("seeing", EVERYTHING)
BLIND = model("blind", EVERYTHING - {"vision"})
PARAM = "messages[0].content[0].file.file_data"


@pytest.fixture
def workspace_id(transactional_db: None) -> int:
    return Workspace.objects.create(name="Acme").pk


def resolver(sandbox: Sandbox | None = None) -> Resolver:
    sandbox = sandbox or Sandbox()
    return Resolver(Fetcher(), Limiter(workers=1, redis_url=""), sandbox, Documents(sandbox))


async def resolved(
    workspace_id: int, *parts: dict[str, Any], models: tuple[ModelInfo, ...], by: Resolver | None = None
) -> Content:
    asked = decode(said({"role": "user", "content": list(parts)}), is_strict=False).chat
    return await (by or resolver()).resolve(asked, route(*models), Room().stay(workspace_id))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def file(data: bytes = TWO, **fields: str) -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": encoded(data), "filename": "a.pdf"} | fields}


async def refusal(workspace_id: int, *parts: dict[str, Any], **options: Any) -> tuple[int, str, str | None]:
    with pytest.raises(ApiError) as caught:
        await resolved(workspace_id, *parts, **options)
    return caught.value.status, caught.value.code, caught.value.param


@pytest.mark.parametrize(
    "fields",
    [
        {"file_data": f"data:application/pdf;base64,{encoded(TWO)}"},
        {"file_data": encoded(TWO)},
        {"data": encoded(TWO), "mime_type": "application/pdf"},
        {"data": f"data:;base64,{encoded(TWO)}"},
        {"file_data": f"data:application/octet-stream;base64,{encoded(TWO)}"},
    ],
    ids=["uri", "bare", "product", "no-type", "octets"],
)
async def test_a_pdf_has_one_shape_however_it_came(workspace_id, fields):
    content = await resolved(workspace_id, {"type": "file", "file": {"filename": "a.pdf"} | fields}, models=(READING,))
    assert content.documents == {(0, 0): Document("a.pdf", len(TWO), (LETTER, LETTER))}
    uri = f"data:application/pdf;base64,{encoded(TWO)}"
    assert content.parts == {(0, 0): FilePart(file=FileSource(file_data=uri, filename="a.pdf"))}


async def test_a_model_that_reads_pdfs_gets_them_as_they_are(workspace_id):
    content = await resolved(workspace_id, file(), models=(READING,))
    assert await prepared(content, READING) is content


async def test_text_is_there_for_the_quote_and_images_for_the_try(workspace_id):
    content = await resolved(workspace_id, file(), models=(READING, SEEING))
    document = content.documents[0, 0]
    assert ([text.strip() for text in document.texts or ()], document.images) == (["First", "Second"], ())
    shown = await prepared(content, SEEING)
    images = shown.documents[0, 0].images
    sizes = [Pillow.open(io.BytesIO(base64.b64decode(image.removeprefix("data:image/jpeg;base64,")))).size for image in images]
    assert sizes == [LETTER, LETTER]
    assert (content.new_pages, shown.new_pages) == (0, 2)


async def test_a_model_that_does_not_see_gets_no_images(workspace_id):
    content = await resolved(workspace_id, file(), models=(BLIND,))
    given = await prepared(content, BLIND)
    assert (given.documents, given.new_pages) == (content.documents, 2)


async def test_all_steps_of_a_request_share_its_pages(workspace_id):
    """The one who serves has their fee, whoever was tried before; the next request has none."""
    content = await resolved(workspace_id, file(), models=(BLIND, SEEING))
    first, second = await prepared(content, SEEING), await prepared(content, BLIND)
    assert (first.new_pages, second.new_pages) == (2, 2)
    again = await prepared(content, SEEING)
    assert again.documents[0, 0].images is first.documents[0, 0].images
    later = await resolved(workspace_id, file(), models=(SEEING,))
    assert later.documents[0, 0].is_converted
    assert (await prepared(later, SEEING)).new_pages == 0


async def test_a_document_that_comes_twice_is_paid_once(workspace_id):
    content = await resolved(workspace_id, file(), file(), models=(SEEING,))
    shown = await prepared(content, SEEING)
    assert [len(document.images) for document in shown.documents.values()] == [2, 2]
    assert shown.new_pages == 2


async def test_looking_makes_no_page_paid(workspace_id):
    """Neither does a dry run, nor an answer of a model that reads PDFs itself."""
    for _ in range(2):
        content = await resolved(workspace_id, file(), models=(READING, SEEING))
        assert not content.documents[0, 0].is_converted


async def test_what_only_a_fallback_needs_and_cannot_have_is_left_out(workspace_id):
    await resolved(workspace_id, file(), models=(READING,))
    wordless = resolver(FailingSandbox("text"))
    content = await resolved(workspace_id, file(), models=(READING, BLIND), by=wordless)
    assert content.documents[0, 0].texts is None
    refused = await refusal(workspace_id, file(), models=(BLIND, READING), by=wordless)
    assert refused == (400, "pdf_conversion_failed", PARAM)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"%PDF-1.7\n%%EOF\n", "invalid_pdf", id="row-117"),
        pytest.param(pdfs.encrypted("secret"), "encrypted_pdf", id="row-118"),
        pytest.param(pdfs.of_pages(["a"] * 101), "too_many_pages", id="row-120"),
        pytest.param(pdfs.of_pages([]), "invalid_pdf", id="row-121"),
        pytest.param(pdfs.of_pages(["a"], box=(0, 0, 10**6, 10**6)), "page_too_large", id="row-122"),
    ],
)
@pytest.mark.parametrize("one", [READING, SEEING], ids=["native", "converted"])
async def test_a_pdf_that_cannot_be_used(workspace_id, one, data, code):
    assert await refusal(workspace_id, file(data), models=(one,)) == (400, code, PARAM)


async def test_all_documents_together_have_a_limit(workspace_id):
    parts = [file(pdfs.of_pages([f"{number}"] * 100)) for number in range(4)]
    assert (await resolved(workspace_id, *parts[:3], models=(READING,))).documents.keys() == {(0, 0), (0, 1), (0, 2)}
    refused = await refusal(workspace_id, *parts, models=(READING,))
    assert refused == (400, "too_many_pages", "messages[0].content[3].file.file_data")


def speaking(dialect: str) -> ModelInfo:
    provider = msgspec.structs.replace(PROVIDER, dialect=dialect)
    return msgspec.structs.replace(model(dialect), targets=(msgspec.structs.replace(target(), provider=provider),))


async def test_an_image_that_a_provider_does_not_take_is_there_as_png():
    part = {"type": "image_url", "image_url": {"url": data_uri(GIF, "image/gif"), "detail": "low"}}
    content = await resolved(0, part, models=(SEEING, speaking("gemini")))
    made = content.converted[0, 0]
    assert isinstance(made, ImagePart)
    assert made.image_url.detail == "low"
    png = base64.b64decode(made.image_url.url.removeprefix("data:image/png;base64,"))
    assert Pillow.open(io.BytesIO(png)).size == Pillow.open(io.BytesIO(GIF)).size
    assert content.parts == {}


async def test_images_that_everybody_takes_are_not_converted():
    parts = [
        {"type": "image_url", "image_url": {"url": data_uri(picture(kind), f"image/{kind.lower()}")}}
        for kind in ("PNG", "JPEG", "WEBP")
    ]
    assert (await resolved(0, *parts, models=(speaking("gemini"),))).converted == {}
    gif = {"type": "image_url", "image_url": {"url": data_uri(GIF, "image/gif")}}
    assert (await resolved(0, gif, models=(SEEING,))).converted == {}


LARGE = picture("PNG", (1_500, 1_400))


def shown(data: bytes, kind: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_uri(data, f"image/{kind}")}}


@pytest.mark.parametrize("models", [("anthropic",), ("openai", "anthropic")], ids=["asked", "fallback"])
async def test_an_image_that_is_too_large_for_a_provider_is_there_as_jpeg(models):
    assert len(LARGE) > MOST_IMAGE_BYTES["anthropic"]
    content = await resolved(0, shown(LARGE, "png"), models=tuple(map(speaking, models)))
    made = content.converted[0, 0]
    assert isinstance(made, ImagePart)
    jpeg = base64.b64decode(made.image_url.url.removeprefix("data:image/jpeg;base64,"))
    assert len(jpeg) <= MOST_IMAGE_BYTES["anthropic"]
    assert Pillow.open(io.BytesIO(jpeg)).size == (1_500, 1_400)


async def test_an_image_for_providers_with_different_limits_is_one_that_all_of_them_take():
    large = picture("GIF", (2_300, 2_300), "L")
    assert len(large) > MOST_IMAGE_BYTES["anthropic"]
    content = await resolved(0, shown(large, "gif"), models=(speaking("anthropic"), speaking("gemini")))
    made = content.converted[0, 0]
    assert isinstance(made, ImagePart)
    jpeg = base64.b64decode(made.image_url.url.removeprefix("data:image/jpeg;base64,"))
    assert len(jpeg) <= MOST_IMAGE_BYTES["anthropic"]


async def test_an_image_that_only_a_fallback_does_not_take_and_that_is_broken_goes_to_the_others():
    broken = GIF[:13] + b"," + b"\xff" * 40 + b";"
    content = await resolved(0, shown(broken, "gif"), models=(SEEING, speaking("gemini")))
    assert content.converted == {}
    assert content.images.keys() == {(0, 0)}
    assert (await refusal(0, shown(broken, "gif"), models=(speaking("gemini"),)))[:2] == (400, "invalid_image")
