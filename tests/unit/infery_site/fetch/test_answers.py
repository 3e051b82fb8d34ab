"""Rows 91 to 95, as far as fetching decides them, and S9: what strangers' servers may do to us."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading

import pytest

from infery_site.fetch import FetchedImage, FetchesBusy, ImageFetchFailed, ImageTooLarge, InvalidImageUrl, Limits, dialling
from infery_site.sniffing import InvalidImage, UnsupportedImageFormat
from tests.unit.infery_site.fetch.strangers import IMPATIENT, PATIENT, PICTURE, PUBLIC, answer, redirect

URL = "http://pictures.example/a.png"
GOOD = FetchedImage("image/png", PICTURE)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
SMALL = Limits(total_s=60, head_s=60, failure_least_s=0, size_bytes=1_000)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(data):
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


SAID = {
    "length": answer(),
    "chunks": CHUNKED + chunk(PICTURE[:9]) + chunk(PICTURE[9:]) + chunk(b""),
    "chunks-with-trailers": CHUNKED + chunk(PICTURE) + b"0\r\nContent-Encoding: gzip\r\nX: y\r\n\r\n",
    "until-the-connection-ends": HEAD + b"\r\n" + PICTURE,
    "http-1.0": b"HTTP/1.0 200 OK\r\nContent-Type: image/png\r\n\r\n" + PICTURE,
    "interim-answers": b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + answer(),
    "more-behind-it": answer() + b"HTTP/1.1 500 No\r\n\r\n",
    "nonsense-behind-it": answer() + b"\x00\xff" * 50,
    "type-with-parameter": answer(headers=["Content-Type: IMAGE/PNG; a=b"]),
    "type-of-an-object-store": answer(headers=["Content-Type: binary/octet-stream"]),
    "no-type": answer(headers=[]),
    "another-image-type": answer(headers=["Content-Type: image/jpeg"]),
    "identity": answer(headers=["Content-Type: image/png", "Content-Encoding: identity"]),
}

FAILURES = {
    "row-91-404": answer(status="404 Not Found"),
    "row-91-500": answer(status="500 No"),
    "row-91-401": answer(status="401 Who"),
    "status-206": answer(status="206 Part"),
    "status-204": b"HTTP/1.1 204 None\r\n\r\n",
    "status-101": b"HTTP/1.1 101 Switch\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "redirect-to-nowhere": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    "status-300": redirect("/a.png", 300),
    "status-304": b"HTTP/1.1 304 Same\r\n\r\n",
    "row-93-gzip": answer(headers=["Content-Type: image/png", "Content-Encoding: gzip"]),
    "row-93-br": answer(headers=["Content-Type: image/png", "Content-Encoding: br"]),
    "row-93-zstd": answer(headers=["Content-Type: image/png", "Content-Encoding: identity", "content-encoding: zstd"]),
    "row-93-gzip-as-transfer": HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + PICTURE,
    "nothing": b"",
    "not-http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "http-2": b"HTTP/2 200 OK\r\n\r\n",
    "cut-in-the-head": HEAD,
    "cut-in-the-body": answer()[:-5],
    "cut-between-chunks": CHUNKED + chunk(PICTURE),
    "bad-chunk": CHUNKED + b"zz\r\n",
    "two-lengths": HEAD + b"Content-Length: 72\r\nContent-Length: 71\r\n\r\n" + PICTURE,
    "length-and-chunks": CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n" + chunk(PICTURE) + chunk(b""),
    "length-below-zero": HEAD + b"Content-Length: -1\r\n\r\n" + PICTURE,
    "endless-head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000,
    "endless-interim-answers": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100_000,
    "endless-line": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000,
}

NOT_IMAGES = {
    "row-94-html": (answer(b"<!doctype html>"), UnsupportedImageFormat),
    "row-94-svg": (answer(b"<svg/>", headers=["Content-Type: image/svg+xml"]), UnsupportedImageFormat),
    "row-94-picture-said-to-be-html": (answer(headers=["Content-Type: text/html"]), UnsupportedImageFormat),
    "row-94-pdf": (
        answer(b"%PDF-1.7 ............", headers=["Content-Type: application/octet-stream"]),
        UnsupportedImageFormat,
    ),
    "row-94-json-of-somebody": (answer(b'{"secret": "a"}', headers=[]), UnsupportedImageFormat),
    "row-94-not-at-0": (answer(b"junk" + PICTURE), UnsupportedImageFormat),
    "row-95-zero-bytes": (answer(b""), InvalidImage),
    "row-95-cut": (answer(PICTURE[:5]), InvalidImage),
}


async def endless(_reader, writer):
    writer.write(CHUNKED)
    while True:
        writer.write(chunk(PICTURE))
        await writer.drain()


async def one_byte_chunks(_reader, writer):
    writer.write(CHUNKED)
    while True:
        writer.write(chunk(b"a") * 10_000)
        await writer.drain()


async def endless_trailers(_reader, writer):
    writer.write(CHUNKED + b"0\r\n")
    while True:
        writer.write(b"X: y\r\n" * 1_000)
        await writer.drain()


async def silent(reader, _writer):
    await reader.read()


async def slow_head(_reader, writer):
    for byte in answer():
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)


async def slow_body(_reader, writer):
    writer.write(HEAD + b"Content-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"a")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
async def test_an_image_is_fetched_however_it_is_sent(world, stranger, said):
    stranger.pages["/a.png"] = said
    assert await world.fetcher().fetch_image(URL) == GOOD


async def test_the_request_tells_nothing(world, stranger):
    await world.fetcher().fetch_image("http://pictures.example/a.png#part")
    await world.fetcher(ports=[stranger.port]).fetch_image(f"http://[2606:4700::1]:{stranger.port}/a.png")
    lines = stranger.requests[0].decode().split("\r\n")
    assert lines == [
        *("GET /a.png HTTP/1.1", "Host: pictures.example", "User-Agent: infery", "Accept: image/*"),
        *("Accept-Encoding: identity", "Connection: close", "", ""),
    ]
    assert f"\r\nHost: [2606:4700::1]:{stranger.port}\r\n".encode() in stranger.requests[1]


@pytest.mark.parametrize("said", FAILURES.values(), ids=FAILURES)
async def test_a_failure_has_one_text(world, stranger, said):
    stranger.pages["/a.png"] = said
    with pytest.raises(ImageFetchFailed) as caught:
        await world.fetcher().fetch_image(URL)
    error = caught.value.at("messages[0].content[0].image_url.url")
    assert (error.status, error.code, error.param) == (400, "image_fetch_failed", "messages[0].content[0].image_url.url")
    assert len(stranger.requests) == 1


@pytest.mark.parametrize("talk", [silent, slow_head, slow_body, endless_trailers])
async def test_a_server_that_takes_its_time_is_left(world, stranger, talk):
    """Row 92, with limits that end it early: no head, a head byte by byte, 50 bytes a second, trailers without end."""
    stranger.pages["/a.png"] = talk
    with pytest.raises(ImageFetchFailed) as caught:
        await world.fetcher(IMPATIENT).fetch_image(URL)
    assert isinstance(caught.value.__cause__, TimeoutError)


@pytest.mark.slow
async def test_a_body_that_is_too_slow_is_left_before_the_time_is_over(world, stranger):
    stranger.pages["/a.png"] = slow_body
    limits = Limits(total_s=60, head_s=30, failure_least_s=0)
    with pytest.raises(ImageFetchFailed):
        await asyncio.wait_for(world.fetcher(limits).fetch_image(URL), 20)


@pytest.mark.parametrize(
    "said",
    [endless, one_byte_chunks, HEAD + b"Content-Length: 1001\r\n\r\n", answer(b"\x89" * 1_001)],
    ids=["endless", "one-byte-chunks", "said", "sent"],
)
async def test_a_body_that_is_too_large_is_left(world, stranger, said):
    """Row 92."""
    stranger.pages["/a.png"] = said
    with pytest.raises(ImageTooLarge):
        await world.fetcher(SMALL).fetch_image(URL)


async def test_a_body_of_the_allowed_size_passes(world, stranger):
    stranger.pages["/a.png"] = answer(PICTURE.ljust(1_000))
    assert len((await world.fetcher(SMALL).fetch_image(URL)).data) == 1_000


@pytest.mark.parametrize(("said", "kind"), NOT_IMAGES.values(), ids=NOT_IMAGES)
async def test_what_is_no_image_is_not_given_out(world, stranger, said, kind):
    stranger.pages["/a.png"] = said
    with pytest.raises(kind):
        await world.fetcher().fetch_image(URL)


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
async def test_a_failure_takes_its_time_whatever_it_is(world, stranger, is_open):
    """S9: from how long it takes, an open port that says nonsense cannot be told from a closed one."""
    stranger.pages["/a.png"] = FAILURES["not-http"]
    if not is_open:
        await stranger.stop()
    started = asyncio.get_running_loop().time()
    with pytest.raises(ImageFetchFailed):
        await world.fetcher(Limits(failure_least_s=0.2)).fetch_image(URL)
    assert asyncio.get_running_loop().time() - started >= 0.199  # a clock may count in whole milliseconds


async def test_a_name_that_nobody_knows(world):
    """Row 91."""

    async def unknown(host, port, asker):
        raise OSError("no such name")

    world.names["empty.example"] = []
    for fetcher, url in ((world.fetcher(), "http://empty.example/"), (world_with(world, unknown), URL)):
        with pytest.raises(ImageFetchFailed):
            await fetcher.fetch_image(url)
    assert world.dialled == []


def world_with(world, resolve, limits=PATIENT):
    world.resolve = resolve
    return world.fetcher(limits)


async def test_a_resolver_that_hangs_is_left(world):
    async def hanging(host, port, asker):
        await asyncio.Event().wait()

    with pytest.raises(ImageFetchFailed):
        await world_with(world, hanging, IMPATIENT).fetch_image(URL)


async def test_whoever_leaves_leaves_nothing_open(world, stranger):
    gone = asyncio.Event()

    async def waits(reader, _writer):
        await reader.read()
        gone.set()

    stranger.pages["/a.png"] = waits
    fetching = asyncio.create_task(world.fetcher(Limits()).fetch_image(URL))
    await stranger.is_asked.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    await asyncio.wait_for(gone.wait(), 5)


async def test_only_so_many_are_fetched_at_once(world, stranger):
    open_now = most = 0

    async def counts(_reader, writer):
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.02)
        open_now -= 1
        writer.write(answer())
        await writer.drain()

    stranger.pages["/a.png"] = counts
    fetcher = world.fetcher(Limits(at_once=3))
    await asyncio.gather(*(fetcher.fetch_image(URL) for _ in range(12)))
    assert most == 3


@pytest.mark.slow
async def test_nobody_takes_all_places(world, stranger):
    """And whoever waits for one is told so: the server was not asked."""

    async def hang(_reader, _writer):
        await asyncio.Event().wait()

    stranger.pages |= {"/slow.png": hang, "/a.png": answer()}
    fetcher = world.fetcher(Limits(at_once=4, at_once_each=2, queue_s=0.2, total_s=1.0, failure_least_s=0.0))
    crowd = [asyncio.create_task(fetcher.fetch_image("http://pictures.example/slow.png", asker=1)) for _ in range(6)]
    await stranger.is_asked.wait()
    assert await fetcher.fetch_image(URL, asker=2) == GOOD
    outcomes = await asyncio.gather(*crowd, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["FetchesBusy"] * 4 + ["ImageFetchFailed"] * 2
    assert dict(next(one.headers for one in outcomes if isinstance(one, FetchesBusy)))["retry-after"] == "5"


async def test_names_that_nobody_answers_for_keep_no_other_from_a_look_up(monkeypatch):
    """The system goes on waiting for them when the fetches are over."""
    goes_on, known = threading.Event(), socket.getaddrinfo

    def silent(host, *arguments, **options):
        if host == "silent.example":
            goes_on.wait(30)
        return known("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    crowd = [asyncio.create_task(dialling.resolve("silent.example", 80, "noisy")) for _ in range(3 * dialling.LOOK_UPS)]
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="Too many"):
        await dialling.resolve("pictures.example", 80, "noisy")
    assert await asyncio.wait_for(dialling.resolve("pictures.example", 80, "quiet"), 2) == ["127.0.0.1"]
    goes_on.set()
    outcomes = await asyncio.gather(*crowd, return_exceptions=True)
    assert outcomes.count(["127.0.0.1"]) == dialling.LOOK_UPS_EACH
    assert await dialling.resolve("pictures.example", 80, "noisy") == ["127.0.0.1"]


async def test_tls_is_checked_against_the_name(world, stranger, server_tls, client_tls):
    await stranger.serve(server_tls)
    fetcher = world.fetcher(tls=client_tls)
    assert await fetcher.fetch_image("https://pictures.example/a.png") == GOOD
    for url in ("https://other.example/a.png", f"https://{PUBLIC}/a.png"):
        with pytest.raises(ImageFetchFailed) as caught:
            await fetcher.fetch_image(url)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert len(stranger.requests) == 1


async def test_an_unknown_authority_is_not_believed(world, stranger, server_tls):
    await stranger.serve(server_tls)
    with pytest.raises(ImageFetchFailed):
        await world.fetcher().fetch_image("https://pictures.example/a.png")


async def test_no_redirect_leaves_https(world, stranger, server_tls, client_tls):
    """Row 88."""
    await stranger.serve(server_tls)
    stranger.pages["/go"] = redirect(URL)
    with pytest.raises(InvalidImageUrl):
        await world.fetcher(tls=client_tls).fetch_image("https://pictures.example/go")
    stranger.pages["/go"] = redirect("https://pictures.example/a.png")
    assert await world.fetcher(tls=client_tls).fetch_image("https://pictures.example/go") == GOOD
    assert world.dialled == [PUBLIC] * 3


async def test_one_fetcher_goes_on_after_a_failure(world, stranger):
    stranger.pages["/b.png"] = FAILURES["nothing"]
    fetcher = world.fetcher(Limits(at_once=1, failure_least_s=0))
    with pytest.raises(ImageFetchFailed):
        await fetcher.fetch_image("http://pictures.example/b.png")
    assert await fetcher.fetch_image(URL) == GOOD
