"""Pictures made by Pillow, and files that only pretend to be pictures or are far more than they seem."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image

PNG_START = b"\x89PNG\r\n\x1a\n"


def picture(kind: str, size: tuple[int, int] = (31, 17), mode: str = "RGB", **options: Any) -> bytes:
    """Noise, which no format makes small."""
    stream = io.BytesIO()
    Image.effect_noise(size, 90).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def flat(kind: str, size: tuple[int, int], mode: str = "L") -> bytes:
    """One colour, which every format makes small."""
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes, bits: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    """A PNG of these chunks, or with next to nothing in it."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace))
    return PNG_START + header + b"".join(chunks or (chunk(b"IDAT", zlib.compress(b"\0")),)) + chunk(b"IEND", b"")


def packed(size_bytes: int, piece: bytes = bytes(1 << 20)) -> bytes:
    """So many bytes of the same piece again and again in a thousandth of the space; that is packed once."""
    packer, times, checksum = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS), size_bytes // len(piece), 1
    block = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(times):
        checksum = zlib.adler32(piece, checksum)
    return b"\x78\xda" + block * times + packer.flush() + struct.pack(">I", checksum)


def gif(
    width: int, height: int, frames: int, frame_size: tuple[int, int] = (1, 1), pixels: bytes = b"\x02\x02\x44\x01\0"
) -> bytes:
    start = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"," + struct.pack("<HHHHB", 0, 0, *frame_size, 0) + pixels
    return start + frame * frames + b";"


def gif_blocks(data: bytes) -> bytes:
    """Pixels of 8 bit, as blocks of 255 bytes."""
    return (
        b"\x08"
        + b"".join(bytes([len(part)]) + part for part in (data[at : at + 255] for at in range(0, len(data), 255)))
        + b"\0"
    )


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose frame header says another size."""
    data = flat("JPEG", (8, 8))
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def riff(*parts: bytes) -> bytes:
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def webp_extended(width: int, height: int, *parts: bytes) -> bytes:
    return riff(
        webp_chunk(b"VP8X", b"\x02\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")), *parts
    )


def animated_webp(frames: int) -> bytes:
    frame = webp_chunk(b"ANMF", bytes(12) + b"\x01\0\0\0" + flat_lossless())
    return webp_extended(1, 1, webp_chunk(b"ANIM", bytes(6)), *[frame] * frames)


def flat_lossless() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "WEBP", lossless=True)
    return stream.getvalue()[12:]


TINY = chunk(b"IDAT", zlib.compress(b"\0\0\0\0"))
SMALL_JPEG = flat("JPEG", (8, 8))
BOMBS: dict[str, Callable[[], bytes]] = {
    "png-65535": lambda: png(65_535, 65_535),
    "png-2-gigapixels-high": lambda: png(1, 2**31 - 1),
    "png-wide": lambda: png(2**31 - 1, 1),
    "png-just-over": lambda: png(8_000, 5_001),
    "png-just-under": lambda: png(8_000, 5_000, chunk(b"IDAT", zlib.compress(bytes(24_001 * 5_000), 9))),
    "png-16-bit-rgba-just-under": lambda: png(8_000, 5_000, chunk(b"IDAT", packed(320 << 20)), bits=16, colour=6),
    "png-pixels-without-end": lambda: png(100, 100, chunk(b"IDAT", packed(512 << 20))),
    "png-text-bomb": lambda: png(1, 1, chunk(b"zTXt", b"a\0\0" + packed(256 << 20)), TINY),
    "png-profile-bomb": lambda: png(1, 1, chunk(b"iCCP", b"a\0\0" + packed(256 << 20)), TINY),
    "png-many-chunks": lambda: png(1, 1, *[chunk(b"tEXt", b"a\0b")] * 200_000, TINY),
    "png-many-frames": lambda: png(1, 1, chunk(b"acTL", struct.pack(">II", 100_000, 0)), TINY),
    "png-interlaced": lambda: png(6_000, 6_000, chunk(b"IDAT", packed(104 << 20)), interlace=1),
    "gif-65535": lambda: gif(65_535, 65_535, 1),
    "gif-many-frames": lambda: gif(1, 1, 100_000),
    "gif-frame-larger-than-screen": lambda: gif(1, 1, 1, (65_535, 65_535), gif_blocks(b"\0" * 5_000)),
    "gif-codes-that-grow": lambda: gif(6_000, 6_000, 1, (6_000, 6_000), gif_blocks(b"\xff" * 500_000)),
    "jpeg-65500": lambda: jpeg_of_size(65_500, 65_500),
    "jpeg-no-height": lambda: jpeg_of_size(8, 0),
    "jpeg-larger-than-its-scan": lambda: jpeg_of_size(7_000, 5_000),
    "jpeg-many-segments": lambda: SMALL_JPEG[:2] + b"\xff\xfe\0\2" * 1_000_000 + SMALL_JPEG[2:],
    "jpeg-many-scans": lambda: (
        SMALL_JPEG[: SMALL_JPEG.index(b"\xff\xda")] + SMALL_JPEG[SMALL_JPEG.index(b"\xff\xda") : -2] * 20_000 + b"\xff\xd9"
    ),
    "webp-16384": lambda: webp_extended(16_384, 16_384, flat_lossless()),
    "webp-16-megapixels-high": lambda: webp_extended(1, 2**24),
    "webp-lossless-16384": lambda: riff(webp_chunk(b"VP8L", b"\x2f" + struct.pack("<I", 0x3FFF | 0x3FFF << 14) + bytes(20))),
    "webp-canvas-larger-than-its-frame": lambda: webp_extended(7_000, 5_000, flat_lossless()),
    "webp-many-frames": lambda: animated_webp(20_000),
}
"""What takes far more than it has, or looks as if; made when it is asked for, which takes seconds."""


def polyglots() -> dict[str, tuple[bytes, str | None]]:
    """Files of two types, each with what stands at their first byte; None: nothing we take."""
    page = b"<html><script>alert(1)</script></html>"
    archive = b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18)
    photo, drawing, film = flat("JPEG", (8, 8)), flat("PNG", (8, 8)), flat("GIF", (8, 8))
    return {
        "png-then-html": (drawing + page, "image/png"),
        "png-with-html-inside": (
            png(8, 8, chunk(b"tEXt", b"a\0" + page), chunk(b"IDAT", zlib.compress(bytes(200)))),
            "image/png",
        ),
        "png-then-zip": (drawing + archive, "image/png"),
        "gif-then-script": (b"GIF89a/*" + film[8:] + b"*/=1;", "image/gif"),
        "jpeg-then-php": (photo + b"<?php system($_GET[0]); ?>", "image/jpeg"),
        "jpeg-with-zip-in-a-comment": (
            photo[:2] + b"\xff\xfe" + struct.pack(">H", len(archive) + 2) + archive + photo[2:],
            "image/jpeg",
        ),
        "webp-then-wave": (flat("WEBP", (8, 8)) + b"RIFF\0\0\0\0WAVE", "image/webp"),
        "html-then-png": (page + drawing, None),
        "zip-then-jpeg": (archive + photo, None),
        "script-then-pdf": (b"/*%PDF-1.7*/alert(1)", None),
        "pdf-then-zip": (b"%PDF-1.7\n" + archive, "application/pdf"),
        "exe-then-png": (b"MZ" + drawing, None),
    }
