"""Images by their own bytes: format at offset 0, size from the header, end in its place. Pixels are never decoded.

The headers are read here and not by an image library, because a library may be led to work before it can be asked for the
size: a JPEG of five million empty segments keeps Pillow busy for seconds, and a WebP of a few kilobytes makes it set
gigabytes aside. Here each file costs a bounded number of steps and no memory. Layouts: PNG (ISO/IEC 15948) 11.2, JPEG
(ITU-T T.81) annex B, GIF89a 18, WebP (RFC 9649) 2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from chat.errors import InvalidRequest
from chat.schema.content import Image

MAX_PIXELS = 40_000_000
MAX_JPEG_SEGMENTS = 4_096

_Size = tuple[int, int]

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_RIFF = b"RIFF"
_PNG_END = b"IEND\xaeB`\x82"
_SAME_TYPE = {"image/jpg": "image/jpeg"}


def inspect(data: bytes, media_type: str, param: str) -> Image:
    """Judge an image that was declared as `media_type` and stands in the field `param`.

    Raises InvalidRequest: `unsupported_image_format`, `invalid_data_uri` where the declared type is another one,
    `invalid_image` for a broken or cut file, `image_too_many_pixels`.
    """
    magic = next((known for known in _FORMATS if data.startswith(known)), None)
    if magic is None and any(known.startswith(data) for known in _FORMATS):
        raise _invalid(param)
    if magic is None or (magic == _RIFF and not b"WEBP".startswith(data[8:12])):
        raise InvalidRequest("unsupported_image_format", f"'{param}' must hold a PNG, JPEG, GIF or WebP image.", param)
    actual_type, measure = _FORMATS[magic]
    if _SAME_TYPE.get(media_type, media_type) != actual_type:
        raise InvalidRequest(
            "invalid_data_uri", f"The data: URI in '{param}' holds {actual_type} and declares another type.", param
        )
    try:
        width, height = measure(data)
    except (IndexError, ValueError, struct.error):
        raise _invalid(param) from None
    if not width or not height:
        raise _invalid(param)
    if width * height > MAX_PIXELS:
        message = f"The image in '{param}' has more than {MAX_PIXELS // 1_000_000} million pixels."
        raise InvalidRequest("image_too_many_pixels", message, param)
    return Image(actual_type, width, height, len(data))


def _invalid(param: str) -> InvalidRequest:
    return InvalidRequest("invalid_image", f"The image in '{param}' is broken or incomplete.", param)


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


_FORMATS: dict[bytes, tuple[str, Callable[[bytes], _Size]]] = {
    b"\x89PNG\r\n\x1a\n": ("image/png", _png),
    b"\xff\xd8\xff": ("image/jpeg", _jpeg),
    b"GIF87a": ("image/gif", _gif),
    b"GIF89a": ("image/gif", _gif),
    _RIFF: ("image/webp", _webp),
}
