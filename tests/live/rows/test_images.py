"""Rows 82, 83 and 94 to 100, as far as images come inline: what is no image that can be sent on."""

from __future__ import annotations

import base64
import io
import struct
import time
import zlib
from typing import Any

import pytest
from PIL import Image

from tests.fakes.launch import FakeProvider
from tests.live.books import Books
from tests.live.rows.raw import Post, chat
from tests.live.rows.refusals import assert_free, assert_refused

PATH = "messages[0].content[1].image_url"
FRAMES = 100_000
BOUND_S = 5.0


def picture(kind: str, size: tuple[int, int] = (20, 10)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, "teal").save(stream, kind)
    return stream.getvalue()


def png(width: int, height: int) -> bytes:
    """An image that says it is so large, with next to nothing in it."""

    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"\0")) + part(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def animated(frames: int) -> bytes:
    """A GIF of one pixel with so many frames."""
    start = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return start + frame * frames + b";"


def uri(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def showing(*images: Any) -> bytes:
    parts = [{"type": "image_url", "image_url": image} for image in images]
    return chat(messages=[{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}])


PNG, JPEG, GIF, WEBP = (picture(kind) for kind in ("PNG", "JPEG", "GIF", "WEBP"))
ENCODED = base64.b64encode(PNG).decode()

BAD_URLS = [
    ("82-number", 5, "invalid_type"),
    ("82-null", None, "invalid_type"),
    ("82-empty", "", "invalid_type"),
    ("82-list", ["data:,"], "invalid_type"),
    ("83-file", "file:///etc/passwd", "invalid_image_url"),
    ("83-ftp", "ftp://example.com/a.png", "invalid_image_url"),
    ("83-gopher", "gopher://example.com/", "invalid_image_url"),
    ("83-javascript", "javascript:alert(1)", "invalid_image_url"),
    ("83-no-scheme", "//example.com/a.png", "invalid_image_url"),
    ("83-line-break", "\ndata:image/png;base64," + ENCODED, "invalid_image_url"),
    ("94-html", uri(b"<!doctype html><p>"), "unsupported_image_format"),
    ("94-svg", uri(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"), "unsupported_image_format"),
    ("94-pdf", uri(b"%PDF-1.7\n", "application/pdf"), "unsupported_image_format"),
    ("94-tiff", uri(picture("TIFF"), "image/tiff"), "unsupported_image_format"),
    ("94-bmp", uri(picture("BMP"), "image/bmp"), "unsupported_image_format"),
    ("94-heic", uri(b"\0\0\0\x18ftypheic", "image/heic"), "unsupported_image_format"),
    ("94-fits", uri(b"SIMPLE  =                    T"), "unsupported_image_format"),
    ("94-eps", uri(b"%!PS-Adobe-3.0 EPSF-3.0"), "unsupported_image_format"),
    ("95-zero-bytes", uri(b""), "invalid_image"),
    ("95-header-only", uri(PNG[:33]), "invalid_image"),
    ("95-truncated-png", uri(PNG[:-8]), "invalid_image"),
    ("95-truncated-jpeg", uri(JPEG[: len(JPEG) // 2], "image/jpeg"), "invalid_image"),
    ("95-truncated-gif", uri(GIF[:-2], "image/gif"), "invalid_image"),
    ("95-truncated-webp", uri(WEBP[:-2], "image/webp"), "invalid_image"),
    ("95-no-width", uri(png(0, 10)), "invalid_image"),
    ("96-65535-x-65535", uri(png(65_535, 65_535)), "image_too_many_pixels"),
    ("96-above-40-million", uri(png(8_000, 5_001)), "image_too_many_pixels"),
    ("100-no-comma", "data:image/png;base64", "invalid_data_uri"),
    ("100-not-base64", "data:image/png," + ENCODED, "invalid_data_uri"),
    ("100-nothing-declared", "data:," + ENCODED, "invalid_data_uri"),
    ("100-padding-missing", "data:image/png;base64," + ENCODED.rstrip("=")[:-1], "invalid_data_uri"),
    ("100-padding-inside", "data:image/png;base64,AA==" + ENCODED, "invalid_data_uri"),
    ("100-white-space-flood", "data:image/png;base64," + " \n" * 50_000 + ENCODED, "invalid_data_uri"),
    ("100-url-alphabet", "data:image/png;base64,_-_-" + ENCODED, "invalid_data_uri"),
    ("100-another-type", uri(PNG, "image/jpeg"), "invalid_data_uri"),
]


def refused(post: Post, provider: FakeProvider, books: Books, label: str, sent: bytes, code: str, param: str) -> None:
    answer = post(sent)
    assert_refused(answer, 400, code, param, label=label, sent=sent)
    assert provider.requests() == []
    assert assert_free(books, label, 400, code).holds == ()


@pytest.mark.parametrize(("url", "code"), [pytest.param(*row, id=f"row-{name}") for name, *row in BAD_URLS])
def test_an_image_is_refused(post: Post, provider: FakeProvider, books: Books, label: str, url: Any, code: str):
    refused(post, provider, books, label, showing({"url": url}), code, f"{PATH}.url")


@pytest.mark.parametrize("image", [pytest.param({}, id="row-82-missing"), pytest.param(5, id="row-82-no-object")])
def test_an_image_without_a_url(post: Post, provider: FakeProvider, books: Books, label: str, image: Any):
    refused(post, provider, books, label, showing(image), "invalid_type", f"{PATH}.url")


@pytest.mark.parametrize("detail", [pytest.param("ultra", id="row-99-ultra"), pytest.param(1, id="row-99-number")])
def test_a_detail_that_does_not_exist(post: Post, provider: FakeProvider, books: Books, label: str, detail: Any):
    sent = showing({"url": uri(PNG), "detail": detail})
    refused(post, provider, books, label, sent, "invalid_value", f"{PATH}.detail")


@pytest.mark.parametrize("count", [pytest.param(101, id="row-98-101-images")])
def test_too_many_images(post: Post, provider: FakeProvider, books: Books, label: str, count: int):
    refused(post, provider, books, label, showing(*[{"url": uri(PNG)}] * count), "too_many_images", "messages")


@pytest.mark.parametrize("frames", [pytest.param(FRAMES, id="row-97-10^5-frames")])
def test_an_endless_animation_costs_little_time(post: Post, provider: FakeProvider, frames: int):
    """It goes on as it came, and is judged by its first frame; the other requests do not wait for it."""
    sent = showing({"url": uri(animated(frames), "image/gif")})
    started_s = time.monotonic()
    answer = post(sent)
    assert time.monotonic() - started_s < BOUND_S
    assert answer.status_code == 200
    (seen,) = provider.requests()
    assert seen.json["messages"][0]["content"][1]["image_url"]["url"] == uri(animated(frames), "image/gif")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://127.0.0.1/a.png", id="row-84"),
        pytest.param("http://169.254.169.254/latest/meta-data", id="row-84-metadata"),
        pytest.param("http://2130706433/a.png", id="row-85"),
        pytest.param("http://[::ffff:7f00:1]/a.png", id="row-86"),
        pytest.param("http://localhost/a.png", id="row-87"),
        pytest.param("http://user@127.0.0.1/a.png", id="row-90"),
        pytest.param("http://127.0.0.1:22/", id="row-90-port"),
    ],
)
def test_an_address_inside_is_not_fetched(post: Post, provider: FakeProvider, books: Books, label: str, url: str):
    refused(post, provider, books, label, showing({"url": url}), "invalid_image_url", f"{PATH}.url")


GOOD = {"png": uri(PNG), "jpeg": uri(JPEG, "image/jpeg"), "gif": uri(GIF, "image/gif"), "webp": uri(WEBP, "image/webp")}


@pytest.mark.parametrize("url", GOOD.values(), ids=GOOD)
def test_a_good_image_goes_on_as_it_came(post: Post, provider: FakeProvider, url: str):
    assert post(showing({"url": url, "detail": "low"})).status_code == 200
    (seen,) = provider.requests()
    assert seen.json["messages"][0]["content"][1]["image_url"] == {"url": url, "detail": "low"}
