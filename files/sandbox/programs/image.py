"""An image to a format that a provider takes, or to fewer bytes."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from PIL import GifImagePlugin, Image, ImageOps, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG"}
# Imported here, so that Pillow does not go looking among all the formats that it has.
_READ = tuple(
    plugin.format
    for plugin in (
        *(PngImagePlugin.PngImageFile, JpegImagePlugin.JpegImageFile),
        *(GifImagePlugin.GifImageFile, WebPImagePlugin.WebPImageFile),
    )
)
_MAX_TRIES = 8

Image.MAX_IMAGE_PIXELS = 40_000_000
warnings.simplefilter("error", Image.DecompressionBombWarning)


def run(request: dict[str, Any], source: Path, emit: Any) -> None:
    try:
        with Image.open(source, formats=_READ) as opened:
            opened.seek(0)  # of an animation, its first frame
            picture = _upright(opened, request["to"])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        emit(error="invalid_image")
        return
    longest = request["max_side"] or max(picture.size)
    picture.thumbnail((longest, longest))
    for _ in range(_MAX_TRIES):
        data = _encoded(picture, request["to"])
        if len(data) <= request["max_bytes"]:
            emit(data, width=picture.width, height=picture.height)
            return
        share = min(0.9, (request["max_bytes"] / len(data)) ** 0.5)
        picture.thumbnail((max(1, int(picture.width * share)), max(1, int(picture.height * share))))
    emit(error="image_too_large")


def _upright(opened: Image.Image, to: str) -> Image.Image:
    """The picture as a viewer shows it, in colours that the format has. Where JPEG has no transparency, there is white."""
    turned = ImageOps.exif_transpose(opened)
    if not turned.has_transparency_data:
        return turned.convert("RGB")
    clear = turned.convert("RGBA")
    if to == "image/png":
        return clear
    ground = Image.new("RGB", clear.size, "white")
    ground.paste(clear, mask=clear)
    return ground


def _encoded(picture: Image.Image, to: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, FORMATS[to])
    return stream.getvalue()


def _warm_up() -> None:
    """Pillow imports parts of itself when they are first used; where there is no box, they may be out of reach by then."""
    for name in _READ:
        stream = io.BytesIO()
        Image.new("P", (2, 2)).convert("RGB").save(stream, name)
        with Image.open(stream, formats=_READ) as opened:
            for to in FORMATS:
                picture = _upright(opened, to)
                picture.thumbnail((1, 1))
                _encoded(picture, to)


_warm_up()
