"""The ways in which this machine can keep a child, in a box where it has one and always without; and what is left of children."""

from __future__ import annotations

import contextlib
import os

import msgspec
import psutil

from files.sandbox import Protection, current_protection

BEST = current_protection()
if os.environ.get("CI", "").lower() == "true" and not BEST.engine.startswith("poppler"):
    raise RuntimeError("poppler is not installed: what it makes of documents would go unproven")
UNBOXED = msgspec.structs.replace(BEST, is_boxed=False)
WAYS: dict[str, Protection] = {"boxed": BEST, "unboxed": UNBOXED} if BEST.is_boxed else {"unboxed": UNBOXED}

_PROGRAMS = {"bwrap", "pdfinfo", "pdftotext", "pdftoppm", "sleep"}


def running() -> list[str]:
    """Children of this process, and theirs, that a sandbox started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            command = process.cmdline()
            if process.name() in _PROGRAMS or any(part.endswith("confine.py") for part in command):
                found.append(process.name())
    return found
