"""Sandboxes that count or fail, and what is found in converted pages."""

from __future__ import annotations

import io
from typing import Any

import msgspec
from PIL import Image

from files.sandbox import Frame, Limits, Sandbox, SandboxFailed
from tests.fakes.kept import BEST

PDFIUM = msgspec.structs.replace(BEST, engine="pdfium-5.15.2")
ENGINES = {"poppler": BEST, "pdfium": PDFIUM} if BEST.engine.startswith("poppler") else {"pdfium": PDFIUM}


class CountingSandbox(Sandbox):
    """Notes what it was asked for, and does it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ran: list[str] = []

    async def run(self, program: str, request: dict[str, Any], data: bytes, limits: Limits) -> list[Frame]:
        self.ran.append(request["task"])
        return await super().run(program, request, data, limits)


class FailingSandbox(Sandbox):
    """Fails at one kind of task, whatever it is given."""

    def __init__(self, task: str, **options: Any) -> None:
        super().__init__(**options)
        self._task = task

    async def run(self, program: str, request: dict[str, Any], data: bytes, limits: Limits) -> list[Frame]:
        if request["task"] == self._task:
            raise SandboxFailed(self._task)
        return await super().run(program, request, data, limits)


def opened(jpeg: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(jpeg))
    image.load()
    return image


def darkest(jpeg: bytes) -> int:
    return int(opened(jpeg).convert("L").getextrema()[0])  # type: ignore[arg-type]
