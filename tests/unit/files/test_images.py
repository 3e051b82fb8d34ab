"""B5 and B7: pictures by their own bytes, and their conversion."""

from __future__ import annotations

import io
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from files.errors import ImageTooLarge, ImageTooManyPixels
from files.images import MAX_PIXELS, Picture, convert_image, measure
from files.sandbox import Sandbox
from infery_site.errors import ContentError
from infery_site.sniffing import InvalidImage, UnsupportedImageFormat, sniff
from tests.fakes.kept import WAYS
from tests.fakes.pictures import BOMBS, flat, picture, polyglots

REFUSED_BY_HEADER = {
    *("png-65535", "png-2-gigapixels-high", "png-wide", "png-just-over", "gif-65535", "jpeg-65500", "jpeg-no-height"),
    *("jpeg-many-segments", "webp-16384", "webp-lossless-16384"),
}
BOUND_S = 10
POLYGLOTS = polyglots()
ANIMATION = picture("GIF", mode="L", save_all=True, append_images=[Image.new("L", (31, 17))])


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return Sandbox(kept_in=request.param)


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_judged_by_its_header(name):
    """B5: nothing is decoded, so that it takes no time and no memory."""
    data = BOMBS[name]()
    started = time.monotonic()
    if name in REFUSED_BY_HEADER:
        with pytest.raises((InvalidImage, ImageTooManyPixels)):
            measure(data)
    else:
        assert 0 < measure(data).width * measure(data).height <= MAX_PIXELS
    assert time.monotonic() - started < 1


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BOMBS.keys() - REFUSED_BY_HEADER))
async def test_a_bomb_that_its_header_does_not_give_away_ends_in_the_sandbox(name):
    """B5: converted, or refused, within the child's limits."""
    data = BOMBS[name]()
    started = time.monotonic()
    try:
        converted = await convert_image(data, "image/jpeg", sandbox=Sandbox(kept_in=next(iter(WAYS.values()))))
    except ContentError as error:
        assert error.code in {"invalid_image", "image_too_large"}  # noqa: PT017
    else:
        assert opened(converted.data).size == (converted.picture.width, converted.picture.height)
    assert time.monotonic() - started < BOUND_S


@pytest.mark.parametrize(("data", "media_type"), POLYGLOTS.values(), ids=POLYGLOTS)
async def test_a_polyglot_is_what_its_first_byte_says(data, media_type):
    """B7: what else it may be is gone once it was converted."""
    assert sniff(data) == media_type
    if media_type is None or not media_type.startswith("image/"):
        with pytest.raises(UnsupportedImageFormat):
            measure(data)
        return
    try:
        assert measure(data).media_type == media_type
        converted = await convert_image(data, "image/png", sandbox=Sandbox(kept_in=next(iter(WAYS.values()))))
    except InvalidImage:
        return
    assert not any(word in converted.data for word in (b"script", b"PK\x03\x04", b"<?php", b"alert"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
@pytest.mark.parametrize("to", ["image/png", "image/jpeg"])
async def test_an_image_becomes_what_is_asked_for(sandbox, kind, to):
    data = picture(kind, (40, 30))
    converted = await convert_image(data, to, sandbox=sandbox)
    assert converted.picture == Picture(to, 40, 30) == measure(converted.data)
    if to == "image/png":
        assert opened(converted.data).convert("RGB").tobytes() == opened(data).convert("RGB").tobytes()


async def test_of_an_animation_the_first_frame_is_taken(sandbox):
    converted = await convert_image(ANIMATION, "image/png", sandbox=sandbox)
    assert opened(converted.data).convert("L").tobytes() == opened(ANIMATION).convert("L").tobytes()


async def test_transparency_stays_in_png_and_turns_white_in_jpeg(sandbox):
    clear = flat("PNG", (8, 8), "RGBA")
    assert opened((await convert_image(clear, "image/png", sandbox=sandbox)).data).getpixel((4, 4)) == (0, 0, 0, 0)
    assert min(opened((await convert_image(clear, "image/jpeg", sandbox=sandbox)).data).getpixel((4, 4))) > 250


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "I;16", "LA", "RGBA"])
async def test_every_kind_of_colour_is_converted(sandbox, mode):
    data = flat("JPEG", (8, 8), mode) if mode == "CMYK" else flat("PNG", (8, 8), mode)
    assert opened((await convert_image(data, "image/jpeg", sandbox=sandbox)).data).mode == "RGB"


async def test_a_photograph_is_turned_upright(sandbox):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = picture("JPEG", (40, 20), exif=exif)
    assert (await convert_image(data, "image/jpeg", sandbox=sandbox)).picture == Picture("image/jpeg", 20, 40)


@pytest.mark.slow
async def test_an_image_is_made_small_enough(sandbox):
    data = picture("PNG", (1_200, 900))
    converted = await convert_image(data, "image/jpeg", sandbox=sandbox, max_bytes=50_000)
    assert len(converted.data) <= 50_000
    assert converted.picture.width / converted.picture.height == pytest.approx(4 / 3, rel=0.02)
    assert converted.picture.width > 200
    sized = await convert_image(data, "image/png", sandbox=sandbox, max_side=300)
    assert (sized.picture.width, sized.picture.height) == (300, 225)
    with pytest.raises(ImageTooLarge):
        await convert_image(data, "image/png", sandbox=sandbox, max_bytes=20)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
async def test_damage_behind_a_sound_header_is_refused(sandbox, kind):
    data = picture(kind, (60, 60))
    broken = data[:60] + bytes(len(data) - 120) + data[-60:]
    with pytest.raises(InvalidImage):
        await convert_image(broken, "image/png", sandbox=sandbox)


@pytest.mark.parametrize("magic", [PNG := b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBP"])
@given(rest=st.binary(max_size=200))
def test_any_bytes_behind_a_magic_number_are_judged(magic, rest):
    try:
        measured = measure(magic + rest)
    except (InvalidImage, ImageTooManyPixels):
        return
    assert 0 < measured.width * measured.height <= MAX_PIXELS


@given(share=st.floats(0, 1, exclude_max=True), kind=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]))
def test_a_cut_image_is_refused(share, kind):
    data = CUT[kind]
    end = int(len(data) * share)
    assume(not (kind == "GIF" and data[:end].rstrip(b"\0").endswith(b";")))
    with pytest.raises(InvalidImage):
        measure(data[:end])


CUT = {kind: picture(kind) for kind in ("PNG", "JPEG", "GIF", "WEBP")}
