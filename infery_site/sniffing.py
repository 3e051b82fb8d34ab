"""What bytes are, told from their own first bytes (pure). What was said of them is not asked.

The magic number stands at offset 0: a file that only works behind something else is not taken for one. That it begins
like a file of its type is all that is known then; whether it is one, the rooms that use it find out.

    ContentError
      InvalidImage            invalid_image
      UnsupportedImageFormat  unsupported_image_format
"""

from __future__ import annotations

import re

from infery_site.errors import ContentError

IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

_MAGIC: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"RIFF....WAVE", re.DOTALL), "audio/wav"),
    (re.compile(rb"%PDF-"), "application/pdf"),
    (re.compile(rb"\x1a\x45\xdf\xa3"), "audio/webm"),
    (re.compile(rb"ID3[\x02-\x04]|\xff[\xf2\xf3\xfa\xfb]"), "audio/mpeg"),
)
_IMAGE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"RIFF")


def sniff(data: bytes) -> str | None:
    """The media type that `data` begins like; None for what this gateway has no use for."""
    return next((media_type for magic, media_type in _MAGIC if magic.match(data)), None)


class InvalidImage(ContentError):
    code = "invalid_image"
    text = "The image in '{param}' is broken or incomplete."


class UnsupportedImageFormat(ContentError):
    code = "unsupported_image_format"
    text = "'{param}' must hold a PNG, JPEG, GIF or WebP image."


def image_type(data: bytes) -> str:
    """The media type of an image. Raises InvalidImage if it ends before that can be told, else UnsupportedImageFormat."""
    media_type = sniff(data)
    if media_type in IMAGE_TYPES:
        return media_type
    is_cut_short = any(start.startswith(data) for start in _IMAGE_STARTS) or (
        data.startswith(b"RIFF") and len(data) < 12 and b"WEBP".startswith(data[8:])
    )
    if is_cut_short:
        raise InvalidImage
    raise UnsupportedImageFormat
