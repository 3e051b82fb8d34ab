"""What a request carries besides text, as sizes and bytes (pure)."""

from __future__ import annotations

import msgspec

from chat.schema.request import Part


class Image(msgspec.Struct, frozen=True):
    """An inline image that was decoded and judged: format by its own bytes, size from its header."""

    media_type: str
    width: int
    height: int
    size_bytes: int


class Audio(msgspec.Struct, frozen=True):
    """Inline audio that was judged by its own bytes."""

    format: str
    duration_s: int
    size_bytes: int


class Document(msgspec.Struct, frozen=True):
    """A PDF by how it begins."""

    filename: str
    size_bytes: int


class KeptState(msgspec.Struct, frozen=True):
    """What the upstream model `maker` wants back with a tool call."""

    maker: str
    data: bytes


class Content(msgspec.Struct, frozen=True):
    """Resolved content of all messages. Media are keyed by message and part index, provider state by tool call.

    `parts` is what goes out in the place of a part that came in another shape, or by reference.
    """

    text_bytes: int
    images: dict[tuple[int, int], Image] = {}
    audio: dict[tuple[int, int], Audio] = {}
    documents: dict[tuple[int, int], Document] = {}
    parts: dict[tuple[int, int], Part] = {}
    states: dict[str, KeptState] = {}
