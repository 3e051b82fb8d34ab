from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from pathlib import Path

import pytest
from django.db import connection
from prometheus_client import REGISTRY

from files.documents import Documents
from files.errors import PdfConversionFailed, TooManyPages
from files.models import Rendition
from files.sandbox import Limits, Sandbox
from files.sandbox.runner import FOLDER_PREFIX
from tests.fakes import pdfs
from tests.fakes.kept import UNBOXED, running
from tests.fakes.pictures import picture
from tests.unit.billing.books import other_connection
from tests.unit.files.documents.reading import ENGINES, CountingSandbox, FailingSandbox, darkest, opened

TWO = pdfs.of_pages(["Hello", "World (2)"])
SQUARE = picture("JPEG", (300, 300))


async def test_text_and_images_of_each_page(documents, workspace_id):
    document = await documents.examine(workspace_id, TWO)
    assert (document.page_count, document.sizes) == (2, ((612, 792), (612, 792)))
    texts = await documents.texts(document)
    assert [text.strip() for text in texts] == ["Hello", "World (2)"]
    images = await documents.images(document)
    assert [opened(image).size for image in images] == [(1583, 2048)] * 2
    assert max(map(darkest, images)) < 50


@pytest.mark.slow
async def test_the_hundredth_page_is_the_last_allowed(documents, workspace_id, settings):
    settings.PDF_MAX_PAGES = 12
    document = await documents.examine(workspace_id, pdfs.of_pages([f"Page {number}" for number in range(12)]))
    texts, images = await documents.texts(document), await documents.images(document)
    assert [text.strip() for text in texts] == [f"Page {number}" for number in range(12)]
    assert len(images) == 12
    with pytest.raises(TooManyPages) as caught:
        await documents.examine(workspace_id, pdfs.of_pages(["a"] * 13))
    assert "more than 12 pages" in caught.value.at("file").message
    settings.PDF_MAX_PAGES = 11
    with pytest.raises(TooManyPages):
        await documents.examine(workspace_id, document.data)


def drawn_bytes():
    """What is on the disk of pages that are being drawn."""
    total = 0
    for path in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/drawn/*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


@pytest.mark.skipif("poppler" not in ENGINES, reason="PDFium draws in memory")
async def test_pages_that_are_too_much_are_not_all_drawn():
    """Without a box they are on the disk of this system."""
    noise = pdfs.stream(
        random.Random(1).randbytes(500 * 500),
        b"/Type /XObject /Subtype /Image /Width 500 /Height 500 /ColorSpace /DeviceGray /BitsPerComponent 8",
    )
    operators, resources = [b"q 612 0 0 792 0 0 cm /Im Do Q"] * 40, b"/XObject << /Im 4 0 R >>"
    data = pdfs.of_contents(operators, resources=resources, more=[noise])
    request = {"pages": 40, "side": 2_048, "max_bytes": 2_000_000, "step_s": 60}
    limits = Limits(cpu_s=60, wall_s=60, output_bytes=20_000_000)
    drawing = asyncio.create_task(Sandbox(kept_in=UNBOXED).run("poppler_images", request, data, limits))
    most_bytes = 0
    while not drawing.done():
        most_bytes = max(most_bytes, await asyncio.to_thread(drawn_bytes))
        await asyncio.sleep(0.01)
    assert drawing.result()[-1].meta["error"] == "pdf_too_large"
    assert 2_000_000 < most_bytes < 12_000_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entries", "size", "pixels"),
    [
        (b"/Rotate 90", (792, 612), (2048, 1583)),
        (b"/Rotate 180", (612, 792), (1583, 2048)),
        (b"/CropBox [0 400 612 792]", (612, 392), (2048, 1312)),
        (b"/CropBox [0 400 612 792] /Rotate 270", (392, 612), (1312, 2048)),
    ],
    ids=["rotated", "upside-down", "cropped", "cropped-and-rotated"],
)
async def test_pages_are_as_they_are_shown(documents, workspace_id, entries, size, pixels):
    document = await documents.examine(workspace_id, pdfs.of_pages(["Text"], entries=entries))
    assert document.sizes == (size,)
    (image,) = await documents.images(document)
    assert all(abs(got - wanted) <= 1 for got, wanted in zip(opened(image).size, pixels, strict=True))
    assert darkest(image) < 50


async def test_a_scan_has_an_image_and_no_text(documents, workspace_id):
    document = await documents.examine(workspace_id, pdfs.scan(SQUARE, 300, 300))
    assert "".join(await documents.texts(document)).strip() == ""
    (image,) = await documents.images(document)
    assert darkest(image) < 100


async def test_text_of_other_scripts(documents, workspace_id):
    mapping = b"/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <ff> endcodespacerange 2 beginbfchar <41> <041F> <42> <65E5> endbfchar endcmap end"
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 5 0 R >>"
    data = pdfs.of_contents(
        [b"BT /F2 24 Tf 72 700 Td (AB) Tj ET"], resources=b"/Font << /F2 4 0 R >>", more=[font, pdfs.stream(mapping)]
    )
    data = data.replace(b"/Font << /F1 3 0 R >> /Font", b"/Font")
    document = await documents.examine(workspace_id, data)
    assert [text.strip() for text in await documents.texts(document)] == ["П日"]


async def test_pages_are_paid_once(documents, sandbox, workspace_id, rival_id):
    """By the first who uses them, in whatever form, and for each workspace by itself; who only looks does not pay."""
    document = await documents.examine(workspace_id, TWO)
    await documents.texts(document)
    later = await Documents(sandbox).examine(workspace_id, TWO)
    assert (document.is_converted, later.is_converted) == (False, False)
    assert [await documents.count_new(one) for one in (document, document, later)] == [2, 0, 0]
    last = await documents.examine(workspace_id, TWO)
    assert last.is_converted
    await documents.images(last)
    assert await documents.count_new(last) == 0
    assert sandbox.ran == ["sizes", "text", "images"]
    others = await documents.examine(rival_id, TWO)
    assert not others.is_converted
    assert await documents.count_new(others) == 2


async def test_what_was_kept_is_what_was_made(documents, sandbox, workspace_id):
    document = await documents.examine(workspace_id, TWO)
    made = await documents.texts(document), await documents.images(document)
    assert (await documents.texts(document), await documents.images(document)) == made
    assert sandbox.ran == ["sizes", "text", "images"]


async def test_requests_at_the_same_time_share_one_conversion(documents, sandbox, workspace_id):
    """And one of them pays for it."""

    async def ask(data):
        document = await documents.examine(workspace_id, data)
        await documents.images(document)
        return await documents.count_new(document)

    assert sorted(await asyncio.gather(*(ask(bytes(TWO)) for _ in range(10)))) == [0] * 9 + [2]
    assert sandbox.ran == ["sizes", "images"]


async def test_a_workspace_converts_one_document_at_a_time(workspace_id, rival_id):
    at_work = []

    class Watching(CountingSandbox):
        async def run(self, program, request, data, limits):
            at_work.append(1)
            most.append(len(at_work))
            try:
                return await super().run(program, request, data, limits)
            finally:
                at_work.pop()

    most = []
    documents = Documents(Watching(kept_in=next(iter(ENGINES.values()))))
    await asyncio.gather(*(documents.examine(workspace_id, pdfs.of_pages([str(number)])) for number in range(4)))
    assert max(most) == 1
    await asyncio.gather(*(documents.examine(one, pdfs.of_pages(["x"])) for one in (workspace_id, rival_id)))
    assert max(most) == 2


@pytest.mark.slow
async def test_a_request_that_leaves_takes_its_conversion_along(workspace_id):
    documents = Documents(Sandbox(kept_in=next(iter(ENGINES.values()))))
    document = await documents.examine(workspace_id, pdfs.of_pages(["a"] * 90))
    task = asyncio.create_task(documents.images(document))
    while not running():  # noqa: ASYNC110 - nothing tells when a process is there
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running() == []
    assert not await Rendition.objects.aexists()
    assert len(await documents.images(document)) == 90


async def test_a_conversion_that_fails_leaves_no_claim(workspace_id):
    """The next request tries again."""
    documents = Documents(FailingSandbox("images", kept_in=next(iter(ENGINES.values()))))
    document = await Documents(Sandbox(kept_in=next(iter(ENGINES.values())))).examine(workspace_id, TWO)
    with pytest.raises(PdfConversionFailed):
        await documents.images(document)
    assert not await Rendition.objects.aexists()
    assert len(await Documents(Sandbox(kept_in=next(iter(ENGINES.values())))).images(document)) == 2


async def test_a_document_does_not_show_its_bytes(documents, workspace_id):
    assert "PDF" not in repr(await documents.examine(workspace_id, TWO))


async def test_conversions_are_counted(documents, workspace_id):
    def counted():
        told = [
            ("gateway_pdf_conversions_total", {"form": "text", "result": "made"}),
            ("gateway_pdf_conversions_total", {"form": "text", "result": "kept"}),
            ("gateway_pdf_pages_converted_total", {"form": "text"}),
            ("gateway_pdf_pages_new_total", {}),
        ]
        return [int(REGISTRY.get_sample_value(name, labels) or 0) for name, labels in told]

    before = counted()
    document = await documents.examine(workspace_id, TWO)
    for _ in range(3):
        await documents.texts(document)
        await documents.count_new(document)
    assert [after - then for after, then in zip(counted(), before, strict=True)] == [1, 2, 2, 2]


async def test_what_fails_is_counted_by_its_cause(workspace_id):
    def counted():
        labels = {"form": "images", "result": "refused"}
        return int(REGISTRY.get_sample_value("gateway_pdf_conversions_total", labels) or 0)

    before = counted()
    kept_in = next(iter(ENGINES.values()))
    document = await Documents(Sandbox(kept_in=kept_in)).examine(workspace_id, TWO)
    with pytest.raises(PdfConversionFailed):
        await Documents(FailingSandbox("images", kept_in=kept_in)).images(document)
    assert counted() == before + 1


class Locking(CountingSandbox):
    """When it is done, somebody else keeps every writer out for longer than one waits."""

    def __init__(self, **options):
        super().__init__(**options)
        self.locked = contextlib.ExitStack()

    async def run(self, program, request, data, limits):
        frames = await super().run(program, request, data, limits)
        if request["task"] == "text" and self.ran.count("text") == 1:
            self.locked.enter_context(other_connection())
        return frames


@pytest.mark.slow
async def test_pages_that_cannot_be_kept_are_given_all_the_same(workspace_id):
    if connection.vendor != "sqlite":
        pytest.skip("there one waits for whoever has the lock")
    sandbox = Locking(kept_in=next(iter(ENGINES.values())))
    documents = Documents(sandbox)
    document = await documents.examine(workspace_id, TWO)
    with sandbox.locked:
        assert [text.strip() for text in await documents.texts(document)] == ["Hello", "World (2)"]
    async with asyncio.timeout(30):  # and nobody waits for the end of a lease that could not be given back
        assert [text.strip() for text in await documents.texts(document)] == ["Hello", "World (2)"]
    assert sandbox.ran.count("text") == 2
