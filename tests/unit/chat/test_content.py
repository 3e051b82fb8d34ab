from __future__ import annotations

import base64
import io
import json
import struct
import zlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image as Pillow

from billing.limits import Limiter
from chat.content import Resolver
from chat.content.images import inspect
from chat.content.inline import MAX_BYTES, decode_data_uri
from chat.content.room import Room
from chat.decode import decode
from chat.schema.content import Image
from files.documents import Documents
from files.images import MAX_PIXELS
from files.sandbox import Sandbox
from infery_site.errors import ApiError
from infery_site.fetch import Fetcher
from tests.unit.chat.rows.bodies import body, calling, said, tool
from tests.unit.chat.values import model, route

PARAM = "messages[0].content[0].image_url.url"


def picture(kind, size=(31, 17), mode="RGB", **options):
    stream = io.BytesIO()
    Pillow.effect_noise(size, 90).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


PNG, JPEG, GIF, WEBP = picture("PNG"), picture("JPEG"), picture("GIF", mode="L"), picture("WEBP")
PICTURES = {
    "png": ("image/png", PNG),
    "png-palette": ("image/png", picture("PNG", mode="P", size=(1, 300))),
    "jpeg": ("image/jpeg", JPEG),
    "jpeg-progressive": ("image/jpeg", picture("JPEG", size=(300, 1), progressive=True)),
    "jpeg-with-comment": ("image/jpeg", picture("JPEG", comment=b"\xff\xd9" * 40)),
    "gif": ("image/gif", GIF),
    "gif-animated": ("image/gif", picture("GIF", mode="L", save_all=True, append_images=[Pillow.new("L", (31, 17))])),
    "webp": ("image/webp", WEBP),
    "webp-lossless": ("image/webp", picture("WEBP", lossless=True, size=(300, 2))),
    "webp-alpha": ("image/webp", picture("WEBP", mode="RGBA")),
    "webp-extended": ("image/webp", picture("WEBP", size=(5, 700), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")),
}


async def resolved(asked):
    """The content of a request that goes to one model of OpenAI's dialect, where no state is looked for."""
    sandbox = Sandbox()
    return await Resolver(Fetcher(), Limiter(workers=1, redis_url=""), sandbox, Documents(sandbox)).resolve(
        asked, route(model()), Room().stay(1)
    )


def data_uri(data, media_type="image/png"):
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def showing(*urls):
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return decode(said({"role": "user", "content": parts}), is_strict=False).chat


def png_header(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + PNG[33:]


@pytest.mark.parametrize(("media_type", "data"), PICTURES.values(), ids=PICTURES)
def test_type_and_size_are_what_a_decoder_finds(media_type, data):
    with Pillow.open(io.BytesIO(data)) as oracle:
        assert inspect(data, media_type, PARAM) == Image(media_type, *oracle.size, len(data))


@pytest.mark.parametrize(("media_type", "data"), PICTURES.values(), ids=PICTURES)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_image_is_refused_wherever_it_was_cut(media_type, data, share):
    """Row 95: a truncated, zero-byte or header-only file."""
    end = int(len(data) * share)
    assume(not (media_type == "image/gif" and data[:end].rstrip(b"\0").endswith(b";")))
    with pytest.raises(ApiError) as caught:
        inspect(data[:end], media_type, PARAM)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "invalid_image", PARAM)


@pytest.mark.parametrize("magic", [PNG[:16], JPEG[:3], GIF[:6], WEBP[:12], b""], ids=["png", "jpeg", "gif", "webp", "none"])
@given(rest=st.binary(max_size=200))
def test_any_bytes_after_a_magic_number_are_judged(magic, rest):
    try:
        image = inspect(magic + rest, "image/png", PARAM)
    except ApiError as error:
        codes = {"invalid_image", "image_too_many_pixels", "unsupported_image_format", "invalid_data_uri"}
        judged = error.code in codes
    else:
        judged = 0 < image.width * image.height <= MAX_PIXELS
    assert judged


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "code"),
    [
        pytest.param("file:///etc/passwd", "invalid_image_url", id="row-83-file"),
        pytest.param("ftp://a/b.png", "invalid_image_url", id="row-83-ftp"),
        pytest.param("gopher://a", "invalid_image_url", id="row-83-gopher"),
        pytest.param("javascript:alert(1)", "invalid_image_url", id="row-83-javascript"),
        pytest.param(" data:image/png;base64,", "invalid_image_url", id="row-83-leading-space"),
        pytest.param(base64.b64encode(PNG).decode(), "invalid_image_url", id="row-83-bare-base64"),
        pytest.param(data_uri(b"<!doctype html>"), "unsupported_image_format", id="row-94-html"),
        pytest.param(data_uri(b"<svg xmlns='a'/>", "image/svg+xml"), "unsupported_image_format", id="row-94-svg"),
        pytest.param(data_uri(b"%PDF-1.7", "application/pdf"), "unsupported_image_format", id="row-94-pdf"),
        pytest.param(data_uri(picture("TIFF"), "image/tiff"), "unsupported_image_format", id="row-94-tiff"),
        pytest.param(data_uri(b"\0\0\0\x18ftypheic", "image/heic"), "unsupported_image_format", id="row-94-heic"),
        pytest.param(data_uri(b"SIMPLE  =  T"), "unsupported_image_format", id="row-94-fits"),
        pytest.param(data_uri(b"%!PS-Adobe-3.0 EPSF"), "unsupported_image_format", id="row-94-eps"),
        pytest.param(data_uri(b"RIFF\0\0\0\0WAVEfmt "), "unsupported_image_format", id="row-94-wave"),
        pytest.param(data_uri(b"junk" + PNG), "unsupported_image_format", id="row-94-magic-not-at-0"),
        pytest.param(data_uri(b""), "invalid_image", id="row-95-zero-bytes"),
        pytest.param(data_uri(PNG[:33]), "invalid_image", id="row-95-header-only"),
        pytest.param(data_uri(JPEG[:-40], "image/jpeg"), "invalid_image", id="row-95-truncated"),
        pytest.param(data_uri(png_header(0, 5)), "invalid_image", id="row-95-no-width"),
        pytest.param(
            data_uri(b"\xff\xd8" + b"\xff\xfe\0\2" * 5_000 + JPEG[2:], "image/jpeg"), "invalid_image", id="row-95-segments"
        ),
        pytest.param(
            data_uri(b"\xff\xd8" + b"\xff" * 50_000 + JPEG[2:], "image/jpeg"), "invalid_image", id="row-95-fill-bytes"
        ),
        pytest.param(data_uri(png_header(65_535, 65_535)), "image_too_many_pixels", id="row-96-65535"),
        pytest.param(data_uri(png_header(8_000, 5_001)), "image_too_many_pixels", id="row-96-40-mp"),
        pytest.param("data:image/png;base64", "invalid_data_uri", id="row-100-no-comma"),
        pytest.param("data:image/png;" + "a=b;" * 90 + "base64,AAAA", "invalid_data_uri", id="row-100-long-header"),
        pytest.param("data:image/png,AAAA", "invalid_data_uri", id="row-100-no-base64"),
        pytest.param("data:,", "invalid_data_uri", id="row-100-nothing"),
        pytest.param(data_uri(PNG + bytes(1 + -len(PNG) % 3)).rstrip("="), "invalid_data_uri", id="row-100-no-padding"),
        pytest.param(data_uri(PNG)[:-4] + "A===", "invalid_data_uri", id="row-100-three-pads"),
        pytest.param(data_uri(b"abcd") + "AAAA", "invalid_data_uri", id="row-100-padding-inside"),
        pytest.param(
            "data:image/png;base64," + "A" * (2**20 - 1) + "=" + "AAAA", "invalid_data_uri", id="row-100-padding-at-a-step"
        ),
        pytest.param(data_uri(b"") + " \n" * 100_000, "invalid_data_uri", id="row-100-white-space"),
        pytest.param(data_uri(PNG)[:50] + "\n" + data_uri(PNG)[51:], "invalid_data_uri", id="row-100-line-break"),
        pytest.param("data:image/png;base64,-_-_", "invalid_data_uri", id="row-100-url-alphabet"),
        pytest.param("data:image/png;base64,éééé", "invalid_data_uri", id="row-100-not-ascii"),
        pytest.param(data_uri(PNG, "image/jpeg"), "invalid_data_uri", id="row-100-other-type"),
        pytest.param(data_uri(PNG, ""), "invalid_data_uri", id="row-100-no-type"),
    ],
)
async def test_a_bad_image_is_answered_by_its_row(url, code):
    with pytest.raises(ApiError) as caught:
        await resolved(showing(url))
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, PARAM)
    assert len(caught.value.message) < 150


async def test_101_images_are_too_many():
    """Row 98."""
    with pytest.raises(ApiError) as caught:
        await resolved(showing(*[data_uri(PNG)] * 101))
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "too_many_images", "messages")
    assert len((await resolved(showing(*[data_uri(PNG)] * 100))).images) == 100


def test_an_image_of_more_than_20_mb_is_refused_before_it_is_decoded():
    """Row 101: the length decides, although the characters are not base64."""
    with pytest.raises(ApiError) as caught:
        decode_data_uri("data:image/png;base64," + "*" * (MAX_BYTES // 3 * 4 + 16), PARAM)
    assert (caught.value.status, caught.value.code, caught.value.param) == (413, "request_too_large", PARAM)


async def test_images_of_more_than_50_mb_in_all_are_refused():
    """Row 101."""
    large = data_uri(PNG[:33] + b"\0" * 18_000_000 + PNG[33:])
    with pytest.raises(ApiError) as caught:
        await resolved(showing(large, large, large))
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")
    assert caught.value.param == "messages[0].content[2].image_url.url"


@given(data=st.binary(max_size=100), is_long=st.booleans())
def test_a_data_uri_gives_its_bytes(data, is_long):
    whole = data + bytes(800_000 * is_long)
    assert decode_data_uri(data_uri(whole, "Image/PNG;charset=utf-8"), PARAM) == ("image/png", whole)


@given(url=st.text(max_size=60), is_data=st.booleans())
def test_any_url_is_decoded_or_refused(url, is_data):
    try:
        media_type, data = decode_data_uri("data:;base64," * is_data + url, PARAM)
    except ApiError as error:
        assert error.param == PARAM  # noqa: PT017
    else:
        assert (media_type, base64.b64encode(data).decode()) == ("", url)


async def test_images_stand_at_their_places():
    image = {"type": "image_url", "image_url": {"url": data_uri(PNG), "detail": "low"}}
    photo = {"type": "image_url", "image_url": {"url": data_uri(JPEG, "image/jpg").replace("data:", "DATA:")}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "é"}, image]}, {"role": "user", "content": [photo]}]
    content = await resolved(decode(body(messages=messages), is_strict=False).chat)
    assert content.images == {(0, 1): Image("image/png", 31, 17, len(PNG)), (1, 0): Image("image/jpeg", 31, 17, len(JPEG))}
    assert content.text_bytes == 2


async def test_a_large_image_is_judged_like_a_small_one():
    large = PNG[:33] + b"\0" * 1_000_000 + PNG[33:]
    content = await resolved(showing(data_uri(large)))
    assert content.images == {(0, 0): Image("image/png", 31, 17, len(large))}


async def test_text_is_counted_in_bytes_over_messages_and_tools():
    tools = [tool(description="Ünique")]
    request = decode(
        body(
            messages=[
                {"role": "system", "content": "é", "name": "n1"},
                calling({"name": "look", "arguments": "{}"}),
                {"role": "tool", "content": [{"type": "text", "text": "😀"}], "tool_call_id": "call_1"},
                {
                    "role": "assistant",
                    "refusal": "no",
                    "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "x", "input": "yz"}}],
                },
                {"role": "assistant", "function_call": {"name": "f", "arguments": "ab"}},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "never"}]},
                {"role": "function", "content": "out", "name": "f"},
            ],
            tools=tools,
        ),
        is_strict=False,
    ).chat
    messages_bytes = (2 + 2) + (6 + 4 + 2) + (4 + 6) + (2 + 1 + 1 + 2) + (1 + 2) + 5 + (3 + 1)
    tools_bytes = len(json.dumps(tools, separators=(",", ":"), ensure_ascii=False).encode())
    assert (await resolved(request)).text_bytes == messages_bytes + tools_bytes


async def test_functions_count_as_text():
    bare = decode(body(), is_strict=False).chat
    with_functions = decode(body(functions=[{"name": "f"}]), is_strict=False).chat
    assert (await resolved(with_functions)).text_bytes == (await resolved(bare)).text_bytes + len('[{"name":"f"}]')
