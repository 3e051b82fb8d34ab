"""What a request carries besides text, as sizes and bytes (pure)."""

from __future__ import annotations

import msgspec


class Image(msgspec.Struct, frozen=True):
    """An inline image that was decoded and judged: format by its own bytes, size from its header."""

    media_type: str
    width: int
    height: int
    size_bytes: int


class Content(msgspec.Struct, frozen=True):
    """Resolved content of all messages. `images` are keyed by message and part index."""

    text_bytes: int
    images: dict[tuple[int, int], Image] = {}
