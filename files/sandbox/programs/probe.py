"""What there is to work with, seen from inside: run once by each process that will convert anything."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def run(request: dict[str, Any], source: Path, emit: Any) -> None:
    is_offline = request["is_offline"] and not _has_network()
    emit(poppler=_poppler_version(), pdfium=PDFIUM, is_offline=is_offline, is_fenced=not _sees_files(), user=os.getuid())


def _poppler_version() -> str:
    """Empty without poppler."""
    if not all(map(shutil.which, ("pdfinfo", "pdftotext", "pdftoppm"))):
        return ""
    said = subprocess.run(["pdftoppm", "-v"], capture_output=True, check=False, timeout=10)  # noqa: S607
    found = re.search(rb"version ([0-9.]{1,20})", said.stderr + said.stdout)
    return found[1].decode() if found else ""


def _pdfium_version() -> str:
    try:
        return version("pypdfium2")
    except PackageNotFoundError:
        return ""


PDFIUM = _pdfium_version()
"""Found while this is imported: later, where there is no box, the interpreter's own files may be out of reach."""


def _sees_files() -> bool:
    """Whether there is more of this system than a child needs."""
    try:
        os.listdir("/")
        Path("/etc/passwd").read_bytes()
    except OSError:
        return False
    return True


def _has_network() -> bool:
    """Whether there is an address to which this could be sent from; nothing is sent."""
    for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((address, 9))
        except OSError:
            continue
        return True
    return False
