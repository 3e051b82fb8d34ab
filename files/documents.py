"""PDFs: how many pages they have, what those say and show. All of it is found out in the sandbox, and kept.

`examine` comes first and fixes the number of pages, which is what a price is made of; what is converted later has as many or
is refused. Text and images are made when they are asked for, once: requests at the same time share one conversion, later
ones get what it kept. Of all who use what was converted, one is told by `count_new` that it is the first, and pays.

A workspace converts one thing at a time in each process, so that it cannot keep all others waiting. A claim that could not be
given back is remembered and given back for whoever asks next, who would wait for nobody until its lease ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import msgspec
from django.conf import settings
from django.db import DatabaseError

from billing.errors import LedgerUnavailable
from files import pages, telemetry
from files.errors import (
    ConversionsBusy,
    EncryptedPdf,
    InvalidPdf,
    PageTooLarge,
    PdfConversionFailed,
    PdfTooLarge,
    StorageUnavailable,
    TooManyPages,
)
from files.images import measure
from files.pages import Claim, Known, Place, Sizes, at_storage, look_up
from files.sandbox import Frame, Limits, Sandbox, SandboxFailed
from files.sharing import Sharing
from infery_site.errors import ContentError
from infery_site.sniffing import sniff

SIDE_PIXELS = 2_048
LEAST_SIDE_POINTS, MOST_SIDE_POINTS = 1, 14_400
MAX_IMAGES_BYTES = 64 * 1024 * 1024
MAX_TEXT_BYTES = 10 * 1024 * 1024
MOST_LOOKS = 2
MOST_UNRELEASED = 1_000
"""Beyond it the leases of all of them end by themselves."""

_TURN_WITHIN_S = 30.0
_LOOK_AGAIN_S = 0.2
_WALL_BESIDES_S = 0.5
"""How much longer a step may take than it may work, so that one that never ends is over in ten seconds with all around it."""
_THREAD_FROM_BYTES = 256 * 1024
_FRAMES_BYTES = 1024 * 1024

logger = logging.getLogger(__name__)


class Document(msgspec.Struct, frozen=True):
    """A PDF that was examined: `sizes` are width and height of each page in points, as it is shown.

    `is_converted` says that its pages were used before in another form than its own: they have no fee any more.
    """

    workspace_id: int
    digest: str
    engine: str
    sizes: Sizes
    is_converted: bool
    data: bytes

    @property
    def page_count(self) -> int:
        return len(self.sizes)

    def __repr__(self) -> str:
        return f"Document(digest={self.digest[:12]!r}, page_count={self.page_count})"


class Documents:
    """Bound to the event loop that works in it. `page_s` of CPU is what a page may take, `document_s` all of them.

    `serving` is the one of the process that serves.
    """

    serving: ClassVar[Documents | None] = None

    def __init__(self, sandbox: Sandbox, *, page_s: int = 8, document_s: int = 60) -> None:
        self._sandbox = sandbox
        self._page_s = page_s
        self._document_s = document_s
        self._examining = Sharing[Known]()
        self._converting = Sharing[list[bytes]]()
        self.looks = asyncio.Semaphore(MOST_LOOKS)
        """Taken by whoever looks at pages in the console: each has a whole document in memory."""
        self._turns: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()
        self._unreleased: dict[Place, Claim] = {}

    async def examine(self, workspace_id: int, data: bytes) -> Document:
        """Raises InvalidPdf, EncryptedPdf, TooManyPages, PageTooLarge; ConversionsBusy."""
        if sniff(data) != "application/pdf":
            raise InvalidPdf
        engine = (await self._sandbox.protection()).engine
        digest = await asyncio.to_thread(_digest, data) if len(data) > _THREAD_FROM_BYTES else _digest(data)
        found = await look_up(pages.known, workspace_id, digest, engine)
        if found is None:
            place = Place(workspace_id, digest, "sizes", engine)
            found = await self._examining.result(place, lambda: self._sizes(place, data))
        if len(found.sizes) > settings.PDF_MAX_PAGES:
            raise TooManyPages(settings.PDF_MAX_PAGES)
        return Document(workspace_id, digest, engine, found.sizes, found.is_converted, data)

    async def texts(self, document: Document) -> tuple[str, ...]:
        """The text layer of each page, empty for a scan. Raises PdfConversionFailed, PdfTooLarge; ConversionsBusy."""
        return tuple([page.decode() for page in await self._converted(document, "text")])

    async def images(self, document: Document) -> tuple[bytes, ...]:
        """A JPEG of each page, its longer side SIDE_PIXELS long. Raises PdfConversionFailed, PdfTooLarge; ConversionsBusy."""
        return tuple(await self._converted(document, "images"))

    async def count_new(self, document: Document) -> int:
        """How many pages the caller is the first to use converted: it pays for them, nobody after it does."""
        if document.is_converted:
            return 0
        new_pages = await look_up(pages.count_new, document.workspace_id, document.digest)
        telemetry.NEW_PAGES.inc(new_pages)
        return new_pages

    async def _sizes(self, place: Place, data: bytes) -> Known:
        request = {"max_pages": settings.PDF_MAX_PAGES}
        try:
            (frame,) = await self._run(place, request, data)
            sizes = msgspec.json.decode(frame.data, type=tuple[tuple[float, float], ...])
        except (SandboxFailed, msgspec.MsgspecError, ValueError):
            raise InvalidPdf from None
        if not sizes or (0.0, 0.0) in sizes:
            raise InvalidPdf
        if not all(LEAST_SIDE_POINTS <= side <= MOST_SIDE_POINTS for size in sizes for side in size):
            raise PageTooLarge
        return await look_up(pages.note_sizes, place.workspace_id, place.digest, place.engine, sizes)

    async def _converted(self, document: Document, form: str) -> list[bytes]:
        place = Place(document.workspace_id, document.digest, form, document.engine)
        return await self._converting.result(place, lambda: self._find_or_convert(document, place))

    async def _find_or_convert(self, document: Document, place: Place) -> list[bytes]:
        found = await self._find_or_claim(place)
        if not isinstance(found, Claim):
            telemetry.CONVERSIONS.labels(place.form, "kept").inc()
            return found
        try:
            made = await self._convert(document, place)
        except BaseException as error:
            telemetry.CONVERSIONS.labels(place.form, "refused" if isinstance(error, ContentError) else "failed").inc()
            await asyncio.shield(self._release(found))
            raise
        telemetry.CONVERSIONS.labels(place.form, "made").inc()
        telemetry.PAGES.labels(place.form).inc(len(made))
        try:
            await at_storage(pages.keep, found, made)
        except (OSError, DatabaseError, LedgerUnavailable, StorageUnavailable):
            logger.exception("Converted pages could not be kept")
            self._release_later(found)
        return made

    async def _release(self, claim: Claim) -> None:
        """Without a database or a store it is tried again for whoever asks next, and what the request has to say is not about that."""
        try:
            await at_storage(pages.release, claim)
        except (LedgerUnavailable, StorageUnavailable):
            self._release_later(claim)

    def _release_later(self, claim: Claim) -> None:
        if len(self._unreleased) >= MOST_UNRELEASED:
            self._unreleased.clear()
        self._unreleased[claim.place] = claim

    async def _find_or_claim(self, place: Place) -> list[bytes] | Claim:
        """Waits for another process that is at it. Raises ConversionsBusy when its lease would have ended."""
        if (unreleased := self._unreleased.pop(place, None)) is not None:
            await self._release(unreleased)
        for _ in range(int(settings.CONVERSION_LEASE_S / _LOOK_AGAIN_S)):
            if (found := await at_storage(pages.find_or_claim, place)) is not None:
                return found
            await asyncio.sleep(_LOOK_AGAIN_S)
        raise ConversionsBusy

    async def _convert(self, document: Document, place: Place) -> list[bytes]:
        is_text = place.form == "text"
        max_bytes = MAX_TEXT_BYTES if is_text else MAX_IMAGES_BYTES
        request = {"pages": document.page_count, "side": SIDE_PIXELS, "max_bytes": max_bytes}
        try:
            frames = await self._run(place, request, document.data)
            made = _texts(frames) if is_text else _images(frames, document.sizes)
        except (SandboxFailed, ContentError, msgspec.MsgspecError, ValueError) as error:
            raise error if isinstance(error, PdfTooLarge) else PdfConversionFailed from None
        if len(made) != document.page_count:
            raise PdfConversionFailed
        return made

    async def _run(self, place: Place, request: dict[str, Any], data: bytes) -> list[Frame]:
        """What a program says of a document. Raises what it says is wrong with it."""
        is_poppler = place.engine.startswith("poppler-")
        is_drawing = place.form == "images"
        program = "poppler_images" if is_poppler and is_drawing else "poppler" if is_poppler else "pdfium"
        step_s = self._page_s + _WALL_BESIDES_S
        wall_s = self._document_s if is_drawing else step_s
        limits = Limits(
            cpu_s=self._document_s if is_drawing and not is_poppler else self._page_s,
            wall_s=wall_s,
            output_bytes=_FRAMES_BYTES + request.get("max_bytes", 0),
        )
        told = {"task": place.form, "step_s": step_s, "page_s": self._page_s, **request}
        async with self.turn(place.workspace_id):
            frames = await self._sandbox.run(program, told, data, limits)
        if frames and (fault := frames[-1].meta.get("error")) is not None:
            raise _FAULTS.get(fault, InvalidPdf)() if fault != "too_many_pages" else TooManyPages(settings.PDF_MAX_PAGES)
        return frames

    @contextlib.asynccontextmanager
    async def turn(self, workspace_id: int) -> AsyncIterator[None]:
        """Of the workspace, for whatever it has converted. Raises ConversionsBusy."""
        turn = self._turns.setdefault(workspace_id, asyncio.Semaphore(1))
        try:
            async with asyncio.timeout(_TURN_WITHIN_S):
                await turn.acquire()
        except TimeoutError:
            raise ConversionsBusy from None
        try:
            yield
        finally:
            turn.release()


_FAULTS: dict[str, type[ContentError]] = {
    "encrypted_pdf": EncryptedPdf,
    "pdf_conversion_failed": PdfConversionFailed,
    "pdf_too_large": PdfTooLarge,
}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _texts(frames: list[Frame]) -> list[bytes]:
    (frame,) = frames
    return [text.encode() for text in msgspec.json.decode(frame.data, type=list[str])]


def _images(frames: list[Frame], sizes: Sizes) -> list[bytes]:
    """The child's word is not taken for it: each must be a JPEG of its page's proportions. Raises ContentError, ValueError."""
    for frame, (width, height) in zip(frames, sizes, strict=True):
        picture = measure(frame.data)
        scale = SIDE_PIXELS / max(width, height)
        is_page = all(
            abs(pixels - side * scale) <= max(2, side * scale / 100)
            for pixels, side in ((picture.width, width), (picture.height, height))
        )
        if picture.media_type != "image/jpeg" or not is_page:
            raise PdfConversionFailed
    return [frame.data for frame in frames]
