"""Images: judged by their own bytes without decoding a pixel, converted in the sandbox where a provider cannot take them.

The headers are read here and not by an image library, because a library may be led to work before it can be asked for the
size: a JPEG of five million empty segments keeps Pillow busy for seconds, and a WebP of a few kilobytes makes it set
gigabytes aside. Here each file costs a bounded number of steps and no memory. Layouts: PNG (ISO/IEC 15948) 11.2, JPEG
(ITU-T T.81) annex B, GIF89a 18, WebP (RFC 9649) 2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal

import msgspec

from files.errors import ImageTooLarge, ImageTooManyPixels
from files.sandbox import Limits, Sandbox, SandboxFailed
from infery_site.sniffing import InvalidImage, image_type

MAX_PIXELS = 40_000_000
MAX_JPEG_SEGMENTS = 4_096
MAX_BYTES = 20 * 1024 * 1024

_Size = tuple[int, int]

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PNG_END = b"IEND\xaeB`\x82"
# Of the largest picture there may be: its pixels, and those of a smaller one made from it.
_LIMITS = Limits(cpu_s=8, wall_s=9.5, output_bytes=MAX_BYTES + 4_096, memory_bytes=768 * 1024 * 1024)


class Picture(msgspec.Struct, frozen=True):
    """What the header of an image says; it ends where an image of its format ends."""

    media_type: str
    width: int
    height: int


class Converted(msgspec.Struct, frozen=True):
    picture: Picture
    data: bytes


def measure(data: bytes) -> Picture:
    """Judge an image. Raises UnsupportedImageFormat, InvalidImage for a broken or cut one, ImageTooManyPixels."""
    media_type = image_type(data)
    try:
        width, height = _MEASURES[media_type](data)
    except (IndexError, ValueError, struct.error):
        raise InvalidImage from None
    if not width or not height:
        raise InvalidImage
    if width * height > MAX_PIXELS:
        raise ImageTooManyPixels
    return Picture(media_type, width, height)


async def convert_image(
    data: bytes,
    to: Literal["image/png", "image/jpeg"],
    *,
    sandbox: Sandbox,
    max_bytes: int = MAX_BYTES,
    max_side: int | None = None,
) -> Converted:
    """An image that was measured, in the format `to`: upright, of an animation the first frame, smaller where it must be.

    Raises InvalidImage for one that cannot be decoded, ImageTooLarge where `max_bytes` cannot be met, ConversionsBusy.
    """
    request = {"to": to, "max_bytes": min(max_bytes, MAX_BYTES), "max_side": max_side}
    try:
        frames = await sandbox.run("image", request, data, _LIMITS)
    except SandboxFailed:
        raise InvalidImage from None
    if len(frames) != 1 or frames[0].meta.get("error") == "image_too_large":
        raise ImageTooLarge
    picture = measure(frames[0].data)
    if picture.media_type != to:
        raise InvalidImage
    return Converted(picture, frames[0].data)


def _png(data: bytes) -> _Size:
    if data[8:16] != b"\0\0\0\x0dIHDR":
        raise ValueError
    data.index(_PNG_END, data.index(b"IDAT", 33))
    return _unpacked(">II", data, 16)


def _gif(data: bytes) -> _Size:
    if not data.rstrip(b"\0").endswith(b";"):
        raise ValueError
    data.index(b",", 13)
    return _unpacked("<HH", data, 6)


def _webp(data: bytes) -> _Size:
    (riff_bytes,) = struct.unpack_from("<I", data, 4)
    kind = data[12:16]
    if riff_bytes + 8 > len(data) or len(data) < 30:
        raise ValueError
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = _unpacked("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError


def _jpeg(data: bytes) -> _Size:
    """Walk the segments to the frame header; behind it there must be a scan and the end of the image."""
    offset = 2
    for _ in range(MAX_JPEG_SEGMENTS):
        if data[offset] != 0xFF:
            raise ValueError
        marker = data[offset + 1]
        if marker == 0xFF:
            offset += 1
            continue
        length = int.from_bytes(data[offset + 2 : offset + 4])
        if length < 2:
            raise ValueError
        if marker in _START_OF_FRAME:
            data.index(b"\xff\xd9", data.index(b"\xff\xda", offset + 2 + length))
            height, width = _unpacked(">HH", data, offset + 5)
            return width, height
        offset += 2 + length
    raise ValueError


def _unpacked(layout: str, data: bytes, offset: int) -> _Size:
    first, second = struct.unpack_from(layout, data, offset)
    return first, second


_MEASURES: dict[str, Callable[[bytes], _Size]] = {
    "image/png": _png,
    "image/jpeg": _jpeg,
    "image/gif": _gif,
    "image/webp": _webp,
}
