"""What the pages of a PDF show, by pdf2image and poppler.

pdf2image does not tell when poppler was stopped or failed: a page counts that came out whole, and all pages must.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pdf2image
from pdf2image.exceptions import PDFInfoNotInstalledError, PDFPageCountError, PDFPopplerTimeoutError, PDFSyntaxError

_FAILURES = (PDFPopplerTimeoutError, PDFPageCountError, PDFSyntaxError, PDFInfoNotInstalledError)
_LOOK_EVERY_S = 0.02
_END_OF_JPEG = b"\xff\xd9"


def run(request: dict[str, Any], source: Path, emit: Any) -> None:
    """A picture of each page.

    One process draws page after page until it is done or has used up its time; the next goes on behind the last page that
    came out whole. So each page has the time of a whole process, and quick pages share the cost of starting one.
    """
    page = 1
    left_bytes = request["max_bytes"]
    while page <= request["pages"]:
        drawn = _draw(request, source, page, left_bytes)
        if not drawn:
            emit(error="pdf_too_large" if drawn is None else "pdf_conversion_failed")
            return
        for data in drawn:
            left_bytes -= len(data)
            if left_bytes < 0:
                emit(error="pdf_too_large")
                return
            emit(data)
            page += 1


def _draw(request: dict[str, Any], source: Path, first: int, most_bytes: int) -> list[bytes] | None:
    """The pages from `first` on that came out whole, in their order; None as soon as they take more than `most_bytes`."""
    folder = source.with_name("drawn")
    folder.mkdir(exist_ok=True)
    with _bounded(folder, most_bytes) as is_beyond, contextlib.suppress(*_FAILURES):  # what was drawn before it counts
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
    if is_beyond.is_set():
        return None
    drawn: list[bytes] = []
    for path in sorted(folder.iterdir(), key=_page_number):
        data = path.read_bytes()
        path.unlink()
        is_next = _page_number(path) == first + len(drawn)
        if is_next and data.endswith(_END_OF_JPEG):
            drawn.append(data)
    return drawn


@contextlib.contextmanager
def _bounded(folder: Path, most_bytes: int) -> Iterator[threading.Event]:
    """Ends what draws into `folder` when that holds more, and says so: where there is no box, it is on the disk of this system.

    pdf2image does not give its child away, so the signal goes to the group. This process takes no notice of it.
    """
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    is_over, is_beyond = threading.Event(), threading.Event()

    def watch() -> None:
        while not is_over.wait(_LOOK_EVERY_S):
            if sum(path.stat().st_size for path in folder.iterdir()) > most_bytes:
                is_beyond.set()
                os.killpg(0, signal.SIGTERM)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield is_beyond
    finally:
        is_over.set()
        watching.join()


def _page_number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
