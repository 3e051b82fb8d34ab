"""The PDFs of a request: how many pages they have, their text where a model needs it, their images when one is asked.

Text is made before anything is held, because a price is made of it; images only for the step that needs them, right before it
is tried, and once for all steps. Both are kept by `files.documents`, so that no page is converted twice for its workspace.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib

import msgspec

from chat.adapt import is_converting
from chat.content.media import Pdf, data_uri
from chat.errors import InvalidRequest
from chat.schema.content import Content, Document
from chat.schema.route import ModelInfo, Route
from files import documents
from files.documents import MAX_IMAGES_BYTES, SIDE_PIXELS, Documents
from files.errors import ConversionsBusy, PdfTooLarge
from infery_site.errors import ContentError

MAX_PAGES = 300
"""Of all documents of a request together."""

Place = tuple[int, int]


class Opened(msgspec.Struct, frozen=True):
    """A document that was examined: what stages see of it, what converts it, the field it stands in."""

    document: Document
    source: documents.Document
    param: str


class RequestPages:
    """Implements `chat.schema.content.Pages`."""

    def __init__(self, converter: Documents, opened: dict[Place, Opened]) -> None:
        self._converter = converter
        self._opened = opened
        self._drawn: dict[Place, Document] | None = None
        self._new_pages: int | None = None

    async def drawn(self) -> dict[Place, Document]:
        if self._drawn is None:
            self._drawn = await self._draw()
        return self._drawn

    async def count_new(self) -> int:
        if self._new_pages is None:
            sources = {one.source.digest: one.source for one in self._opened.values()}
            self._new_pages = sum([await self._converter.count_new(source) for source in sources.values()])
        return self._new_pages

    async def _draw(self) -> dict[Place, Document]:
        by_digest: dict[str, tuple[str, ...]] = {}
        drawn: dict[Place, Document] = {}
        left_bytes = MAX_IMAGES_BYTES
        for place, one in self._opened.items():
            try:
                if one.source.digest not in by_digest:
                    images = await self._converter.images(one.source)
                    left_bytes -= sum(map(len, images))
                    if left_bytes < 0:
                        raise PdfTooLarge
                    by_digest[one.source.digest] = await asyncio.to_thread(_uris, images)
            except ContentError as error:
                raise error.at(one.param) from None
            drawn[place] = msgspec.structs.replace(one.document, images=by_digest[one.source.digest])
        return drawn


async def opened(converter: Documents, pdfs: dict[Place, Pdf], route: Route, workspace_id: int) -> dict[Place, Opened]:
    """The documents of a request. Raises ApiError for one that is broken, or that the model asked cannot be given.

    What only a fallback would need and cannot have is left out, and so will be the fallback.
    """
    asked, *others = [step.model for step in route.steps]
    needs = _needs_text(asked)
    found: dict[Place, Opened] = {}
    page_count = 0
    for place, pdf in pdfs.items():
        try:
            source = await converter.examine(workspace_id, pdf.data)
            page_count += source.page_count
            if page_count > MAX_PAGES:
                message = f"The PDFs of a request must have at most {MAX_PAGES} pages in all."
                raise InvalidRequest("too_many_pages", message, pdf.param)
            texts = None
            if needs:
                texts = await converter.texts(source)
            elif any(map(_needs_text, others)):
                with contextlib.suppress(ContentError, ConversionsBusy):
                    texts = await converter.texts(source)
        except ContentError as error:
            raise error.at(pdf.param) from None
        sizes = tuple([_pixels(size) for size in source.sizes])
        seen = Document(pdf.filename, len(pdf.data), sizes, texts, is_converted=source.is_converted)
        found[place] = Opened(seen, source, pdf.param)
    return found


async def prepared(content: Content, model: ModelInfo) -> Content:
    """The content as `model` needs it, right before it is tried. From here on its pages count as converted. Raises ApiError."""
    if content.pages is None or not is_converting(content, model):
        return content
    shown = await content.pages.drawn() if "vision" in model.capabilities else content.documents
    return msgspec.structs.replace(content, documents=shown, new_pages=await content.pages.count_new())


def _needs_text(model: ModelInfo) -> bool:
    return "pdf" not in model.capabilities


def _pixels(size: tuple[float, float]) -> tuple[int, int]:
    scale = SIDE_PIXELS / max(size)
    return round(size[0] * scale), round(size[1] * scale)


def _uris(images: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple([data_uri("image/jpeg", base64.b64encode(image).decode()) for image in images])
