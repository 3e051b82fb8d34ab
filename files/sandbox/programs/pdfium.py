"""What a PDF has, says and shows, by PDFium: for systems without poppler. All of it happens in this process."""

from __future__ import annotations

import io
import json
import math
import resource
from pathlib import Path
from typing import Any

import pypdfium2
from PIL import Image
from pypdfium2 import PdfDocument, PdfiumError


def run(request: dict[str, Any], source: Path, emit: Any) -> None:
    try:
        document = PdfDocument(source)
    except PdfiumError as error:
        # PDFium says the same of some broken files.
        is_encrypted = "password" in str(error) and b"/Encrypt" in source.read_bytes()
        emit(error="encrypted_pdf" if is_encrypted else "invalid_pdf")
        return
    try:
        {"sizes": sizes, "text": text, "images": images}[request["task"]](request, document, emit)
    except PdfiumError:
        emit(error="invalid_pdf" if request["task"] == "sizes" else "pdf_conversion_failed")


def sizes(request: dict[str, Any], document: PdfDocument, emit: Any) -> None:
    """The size of each page as it is shown, in points."""
    if len(document) > request["max_pages"]:
        document[request["max_pages"]]  # which fails if the number is a lie
        emit(error="too_many_pages")
        return
    if not len(document):
        emit(error="invalid_pdf")
        return
    emit(json.dumps([page.get_size() for page in document]).encode())


def text(request: dict[str, Any], document: PdfDocument, emit: Any) -> None:
    """The text of each page."""
    _take_time(request["page_s"])
    pages = []
    for page in document:
        part = page.get_textpage()
        pages.append(part.get_text_bounded().replace("\r\n", "\n"))
        part.close()
        page.close()
    if len(pages) != request["pages"]:
        emit(error="pdf_conversion_failed")
        return
    data = json.dumps(pages, ensure_ascii=False).encode()
    if len(data) > request["max_bytes"]:
        emit(error="pdf_too_large")
        return
    emit(data)


def images(request: dict[str, Any], document: PdfDocument, emit: Any) -> None:
    """A picture of each page."""
    document.init_forms()
    left_bytes = request["max_bytes"]
    for page in document:
        _take_time(request["page_s"])
        picture = page.render(scale=request["side"] / max(page.get_size())).to_pil()
        picture.thumbnail((request["side"], request["side"]))
        data = _encoded(picture)
        left_bytes -= len(data)
        if left_bytes < 0:
            emit(error="pdf_too_large")
            return
        emit(data)
        page.close()


def _take_time(seconds: float) -> None:
    """From here on, so much of the CPU and no more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (min(hard, math.ceil(used.ru_utime + used.ru_stime + seconds)), hard))


def _encoded(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "JPEG")
    return stream.getvalue()


# Nothing is to be imported when privileges are gone.
"".encode("utf-16-le")
_encoded(Image.new("RGB", (2, 2)))
pypdfium2.PdfDocument.new().new_page(2, 2).render().to_pil()
