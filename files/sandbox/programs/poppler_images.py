"""What the pages of a PDF show, by pdf2image and poppler.

pdf2image does not tell when poppler was stopped or failed: a page counts that came out whole, and all pages must.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pdf2image
from pdf2image.exceptions import PDFInfoNotInstalledError, PDFPageCountError, PDFPopplerTimeoutError, PDFSyntaxError

_FAILURES = (PDFPopplerTimeoutError, PDFPageCountError, PDFSyntaxError, PDFInfoNotInstalledError)
_END_OF_JPEG = b"\xff\xd9"


def run(request: dict[str, Any], source: Path, emit: Any) -> None:
    """A picture of each page.

    One process draws page after page until it is done or has used up its time; the next goes on behind the last page that
    came out whole. So each page has the time of a whole process, and quick pages share the cost of starting one.
    """
    page = 1
    left_bytes = request["max_bytes"]
    while page <= request["pages"]:
        drawn = _draw(request, source, page)
        if not drawn:
            emit(error="pdf_conversion_failed")
            return
        for data in drawn:
            left_bytes -= len(data)
            if left_bytes < 0:
                emit(error="pdf_too_large")
                return
            emit(data)
            page += 1


def _draw(request: dict[str, Any], source: Path, first: int) -> list[bytes]:
    """The pages from `first` on that came out whole, in their order."""
    folder = source.with_name("drawn")
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(*_FAILURES):  # what was drawn before it counts
        pdf2image.convert_from_path(
            source,
            first_page=first,
            last_page=request["pages"],
            size=request["side"],
            fmt="jpeg",
            use_cropbox=True,
            output_folder=folder,
            output_file="page",
            paths_only=True,
            thread_count=1,
            timeout=request["step_s"],
        )
    drawn: list[bytes] = []
    for path in sorted(folder.iterdir(), key=_page_number):
        data = path.read_bytes()
        path.unlink()
        is_next = _page_number(path) == first + len(drawn)
        if is_next and data.endswith(_END_OF_JPEG):
            drawn.append(data)
    return drawn


def _page_number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
