"""What pages a PDF has and what they say, by poppler's own programs, each with the limits of this process anew."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

_SIZE = re.compile(rb"^Page +([0-9]+) size: +([0-9.e+-]+|nan|inf) x ([0-9.e+-]+|nan|inf) pts", re.MULTILINE)
_TURN = re.compile(rb"^Page +([0-9]+) rot: +([0-9]+)", re.MULTILINE)
_COUNT = re.compile(rb"^Pages: +([0-9]+)$", re.MULTILINE)


def run(request: dict[str, Any], source: Path, emit: Any) -> None:
    {"sizes": sizes, "text": text}[request["task"]](request, source, emit)


def sizes(request: dict[str, Any], source: Path, emit: Any) -> None:
    """The size of each page as it is shown, in points."""
    most = request["max_pages"]
    command = ["pdfinfo", "-f", "1", "-l", str(most + 1), str(source)]
    said = subprocess.run(command, capture_output=True, check=False, timeout=request["step_s"])  # noqa: S603
    if said.returncode != 0:
        emit(error="encrypted_pdf" if b"Incorrect password" in said.stderr else "invalid_pdf")
        return
    # A title may say anything, also lines like those looked for. It stands before them, and of two the last counts.
    counts = _COUNT.findall(said.stdout)
    count = int(counts[-1]) if counts else 0
    found = {int(number): (float(width), float(height)) for number, width, height in _SIZE.findall(said.stdout)}
    turns = {int(number): int(degrees) for number, degrees in _TURN.findall(said.stdout)}
    if count > most:
        emit(error="too_many_pages")
    elif count == 0 or not found.keys() >= set(range(1, count + 1)):
        emit(error="invalid_pdf")
    else:
        pages = range(1, count + 1)
        emit(json.dumps([found[page][::-1] if turns.get(page) in {90, 270} else found[page] for page in pages]).encode())


def text(request: dict[str, Any], source: Path, emit: Any) -> None:
    """The text of each page."""
    target = source.with_name("text")
    command = ["pdftotext", "-enc", "UTF-8", "-f", "1", "-l", str(request["pages"]), str(source), str(target)]
    said = subprocess.run(command, capture_output=True, check=False, timeout=request["step_s"])  # noqa: S603
    pages = target.read_bytes().decode("utf-8", "replace").split("\f") if target.exists() else []
    if said.returncode != 0 or len(pages) != request["pages"] + 1:
        emit(error="pdf_conversion_failed")
        return
    data = json.dumps(pages[:-1], ensure_ascii=False).encode()
    if len(data) > request["max_bytes"]:
        emit(error="pdf_too_large")
        return
    emit(data)
