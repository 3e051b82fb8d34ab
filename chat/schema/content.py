"""What a request carries besides text, as sizes and bytes (pure)."""

from __future__ import annotations

import msgspec


class Image(msgspec.Struct, frozen=True):
    """An inline image that was decoded and judged: format by its own bytes, size from its header."""

    media_type: str
    width: int
    height: int
    size_bytes: int


class Audio(msgspec.Struct, frozen=True):
    """Inline audio that was judged by its own bytes. `wav_base64` holds it as WAV where no provider takes it as it came."""

    format: str
    duration_s: int
    size_bytes: int
    wav_base64: str = ""


class KeptState(msgspec.Struct, frozen=True):
    """What the upstream model `maker` wants back with a tool call."""

    maker: str
    data: bytes


class Content(msgspec.Struct, frozen=True):
    """Resolved content of all messages. Media are keyed by message and part index, provider state by tool call."""

    text_bytes: int
    images: dict[tuple[int, int], Image] = {}
    audio: dict[tuple[int, int], Audio] = {}
    states: dict[str, KeptState] = {}
