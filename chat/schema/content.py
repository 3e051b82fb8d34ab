"""What a request carries besides text, as sizes and bytes (pure)."""

from __future__ import annotations

from typing import Protocol

import msgspec

from chat.schema.request import Part


class Image(msgspec.Struct, frozen=True):
    """An inline image that was decoded and judged: format by its own bytes, size from its header."""

    media_type: str
    width: int
    height: int
    size_bytes: int


class Audio(msgspec.Struct, frozen=True):
    """Audio that was judged by its own bytes; `format` is the one it came in."""

    format: str
    duration_s: int
    size_bytes: int


class Document(msgspec.Struct, frozen=True):
    """A PDF that was examined; `page_sizes` are width and height of each page's image, in pixels.

    `texts` is the text layer of each page: None where no model of the route needs it, or a fallback cannot have it. `images`
    is a data: URI of each page, only there once a model is to see it. `is_converted`: its workspace has paid for its pages.
    """

    filename: str
    size_bytes: int
    page_sizes: tuple[tuple[int, int], ...] = ()
    texts: tuple[str, ...] | None = None
    images: tuple[str, ...] = ()
    is_converted: bool = False

    @property
    def is_scan(self) -> bool:
        """Whether there is nothing to read in it but by looking."""
        return self.texts is not None and not any(text.strip() for text in self.texts)


class KeptState(msgspec.Struct, frozen=True):
    """What the upstream model `maker` wants back with a tool call."""

    maker: str
    data: bytes


class Pages(Protocol):
    """Converts the documents of one request for a model that cannot read them, and remembers what it did."""

    async def drawn(self) -> dict[tuple[int, int], Document]:
        """The documents with the images of their pages. Raises ApiError."""

    async def count_new(self) -> int:
        """How many pages this request is the first of its workspace to use converted, and pays for. Raises ApiError."""


class Content(msgspec.Struct, frozen=True):
    """Resolved content of all messages. Media are keyed by message and part index, provider state by tool call.

    `parts` is what goes out in the place of a part that came in another shape, or by reference; `converted` in the place of
    an image that some providers do not take. `pages` converts the documents; `new_pages` of them are to be paid.
    """

    text_bytes: int
    images: dict[tuple[int, int], Image] = {}
    audio: dict[tuple[int, int], Audio] = {}
    documents: dict[tuple[int, int], Document] = {}
    parts: dict[tuple[int, int], Part] = {}
    converted: dict[tuple[int, int], Part] = {}
    pages: Pages | None = None
    new_pages: int = 0
    states: dict[str, KeptState] = {}

    @property
    def is_text_only(self) -> bool:
        return not (self.images or self.audio or self.documents)
