"""B6 and rows 117 to 126: PDFs that are broken, lie, or are far more than they seem. Each with how it must end."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image

from tests.fakes import pdfs
from tests.fakes.pictures import flat, packed

CONVERTED = "converted"


def _forms(depth: int) -> bytes:
    """A form that draws another twice, which draws another twice, and so on."""
    start = b"/Type /XObject /Subtype /Form /BBox [0 0 612 792] "
    forms = [
        pdfs.stream(b"/X Do /X Do", start + b"/Resources << /XObject << /X %d 0 R >> >>" % (5 + at)) for at in range(depth)
    ]
    return pdfs.of_contents(
        [b"/X Do"], resources=b"/XObject << /X 4 0 R >>", more=[*forms, pdfs.stream(b"0 0 9 9 re f", start)]
    )


def _image(width: int, height: int, data: bytes, filters: bytes) -> bytes:
    entries = b"/Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceRGB /BitsPerComponent 8 %s" % (
        width,
        height,
        filters,
    )
    return pdfs.of_contents(
        [b"q 612 0 0 792 0 0 cm /Im Do Q"], resources=b"/XObject << /Im 4 0 R >>", more=[pdfs.stream(data, entries)]
    )


def _nested_tree(levels: int) -> bytes:
    """A hundred kids on each level, all of them the same one."""
    nodes = [
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b"%d 0 R " % (4 + level) * 100, 100 ** (levels - level))
        for level in range(levels)
    ]
    return pdfs.with_tree(nodes[0], *nodes[1:], pdfs.page(4 + levels), pdfs.stream(pdfs.text("a")))


def _scan() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (850, 1_100), "white").save(stream, "PDF")
    return stream.getvalue()


def _hanging(action: bytes) -> bytes:
    return pdfs.of_contents([pdfs.text("Plain")], catalog=action)


ODD: dict[str, tuple[bytes, set[str]]] = {
    "117-empty": (b"", {"invalid_pdf"}),
    "117-120-bytes": (pdfs.of_pages(["a"])[:120], {"invalid_pdf"}),
    "117-random-behind-the-header": (b"%PDF-1.7\n" + bytes(range(256)) * 40, {"invalid_pdf"}),
    "117-not-at-the-start": (b"junk\n" + pdfs.of_pages(["a"]), {"invalid_pdf"}),
    "118-password": (pdfs.encrypted("secret"), {"encrypted_pdf"}),
    "118-owner-password-only": (pdfs.encrypted(""), {CONVERTED}),
    "119-says-a-million-pages": (pdfs.of_pages(["a"], count=1_000_000), {"invalid_pdf"}),
    "119-says-one-page-of-three": (pdfs.of_pages(["a", "b", "c"], count=1), {CONVERTED}),
    "119-one-page-100000-times": (
        pdfs.with_tree(b"<< /Type /Pages /Kids [%s] /Count 100000 >>" % (b"4 0 R " * 100_000), pdfs.page(5), pdfs.stream(b"")),
        {"invalid_pdf", "too_many_pages"},
    ),
    "119-100-million-nested": (_nested_tree(4), {"invalid_pdf", "too_many_pages"}),
    "120-101-pages": (pdfs.of_pages(["a"] * 101), {"too_many_pages"}),
    "120-10000-pages": (pdfs.of_pages(["a"] * 10_000), {"too_many_pages"}),
    "121-no-pages": (pdfs.of_pages([]), {"invalid_pdf"}),
    "122-a-million-points": (pdfs.of_pages(["a"], box=(0, 0, 10**6, 10**6)), {"page_too_large"}),
    "122-as-thin-as-can-be": (pdfs.of_pages(["a"], box=(0, 0, 10**7, 1)), {"page_too_large"}),
    "122-longest-and-thinnest-allowed": (pdfs.of_pages(["a"], box=(0, 0, 14_400, 1)), {CONVERTED, "pdf_conversion_failed"}),
    "122-half-a-point": (pdfs.of_pages(["a"], box=(0, 0, 0.5, 100)), {"page_too_large"}),
    "122-negative": (pdfs.of_pages(["a"], box=(612, 792, 0, 0)), {CONVERTED}),
    "122-zero": (pdfs.of_pages(["a"], box=(0, 0, 0, 0)), {CONVERTED}),
    "122-no-box": (pdfs.of_pages(["a"], box=None), {CONVERTED}),
    "122-user-unit": (pdfs.of_pages(["a"], entries=b"/UserUnit 75000"), {CONVERTED, "page_too_large"}),
    "123-tree-in-itself": (pdfs.with_tree(b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"), {"invalid_pdf"}),
    "125-javascript": (_hanging(b"/OpenAction << /S /JavaScript /JS (while(1){}) >>"), {CONVERTED}),
    "125-launch": (_hanging(b"/OpenAction << /S /Launch /F (/bin/sh) >>"), {CONVERTED}),
    "125-external-stream": (
        pdfs.of_contents(
            [pdfs.text("Plain")], more=[b"<< /Length 0 /F (/etc/passwd) >>\nstream\n\nendstream"], entries=b"/Metadata 4 0 R"
        ),
        {CONVERTED},
    ),
    "125-xfa": (
        _hanging(b"/AcroForm << /XFA [(template) (<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>)] /Fields [] >>"),
        {CONVERTED},
    ),
    "126-zip-behind-it": (pdfs.of_pages(["a"]) + b"PK\x03\x04" + bytes(200), {CONVERTED}),
    "scan-without-text": (_scan(), {CONVERTED}),
}


LINES = b"0 0 m 612 792 l S 612 0 m 0 792 l S\n"
FAILED, EITHER = {"pdf_conversion_failed"}, {"pdf_conversion_failed", CONVERTED}
BOMBS: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    # A fast machine reads it.
    "124-280-mb-of-operators": (lambda: pdfs.of_contents([pdfs.Packed(packed(280 << 20, LINES * 30_000))]), EITHER),
    "124-900-megapixels": (lambda: _image(30_000, 30_000, packed(2_576 << 20), b"/Filter /FlateDecode"), EITHER),
    "124-900-megapixels-of-jpeg": (
        lambda: _image(30_000, 30_000, flat("JPEG", (8, 8), "RGB"), b"/Filter /DCTDecode"),
        EITHER,
    ),
    "124-16-million-nested-forms": (lambda: _forms(24), FAILED),
    "124-a-form-in-itself": (
        lambda: pdfs.of_contents(
            [b"/X Do"],
            resources=b"/XObject << /X 4 0 R >>",
            more=[
                pdfs.stream(
                    b"/X Do /X Do",
                    b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 4 0 R >> >>",
                )
            ],
        ),
        EITHER,
    ),
    "124-page-of-zeros": (
        lambda: pdfs.of_contents([pdfs.Packed(packed(512 << 20, b"1 0 0 1 0 0 cm " + bytes(1 << 20)))]),
        EITHER,
    ),
    "124-text-without-end": (
        lambda: pdfs.of_contents([b"BT /F1 1 Tf " + b"(aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa) Tj " * 1_000_000 + b" ET"]),
        EITHER,
    ),
    "124-saves-without-end": (lambda: pdfs.of_contents([b"q " * 10_000_000]), EITHER),
}
"""What burns a core, or would fill the memory; made when it is asked for, which takes seconds, and what it may end in."""
