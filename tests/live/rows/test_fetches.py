"""Rows 84 to 95 by URL: what the gateway does when an image is named by an address, with strangers' servers at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.live import native
from tests.live.books import Books
from tests.live.gateway import Installation
from tests.live.rows.fetching import STRANGER_PORT
from tests.live.rows.raw import chat
from tests.live.rows.refusals import assert_free, assert_refused
from tests.live.rows.test_images import PNG, png
from tests.unit.infery_site.fetch.strangers import Stranger, answer, redirect

FIELD = "messages[0].content[0].image_url.url"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"


async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"\r\n" + PNG)
    while True:
        writer.write(bytes(1 << 20))
        await writer.drain()


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def slow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def stranger() -> Iterator[Stranger]:
    """In a thread of its own, on one port for all tests."""
    made, loop, is_over = Stranger(), asyncio.new_event_loop(), asyncio.Event()
    is_ready = threading.Event()

    async def serve() -> None:
        async with made:
            is_ready.set()
            await is_over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    is_ready.wait()
    yield made
    loop.call_soon_threadsafe(is_over.set)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def fetching(installation: Installation, row_keys: dict[str, str], stranger: Stranger) -> Iterator[httpx.Client]:
    environment: dict[str, Any] = {"DJANGO_SETTINGS_MODULE": "tests.live.rows.fetching_settings"}
    environment[STRANGER_PORT] = str(stranger.port)
    headers = {"authorization": f"Bearer {row_keys['acme']}", "content-type": "application/json"}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(installation.server(**environment))
        yield stack.enter_context(httpx.Client(base_url=server.base_url, headers=headers, timeout=30, trust_env=False))


def showing(url: str) -> bytes:
    return chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])


def told(row: str, url: str, code: str, page: Any = None, requests: int = 0) -> Any:
    """What is refused with `code`; the first page is `page`, and so many requests reach the stranger."""
    return pytest.param(url, code, page, requests, id=f"row-{row}")


INVALID, FAILED = "invalid_image_url", "image_fetch_failed"
HERE = "http://pictures.example/first"
LITERALS = ["127.0.0.1", "10.1.2.3", "100.64.0.1", "169.254.169.254", "192.0.0.192", "224.0.0.1", "255.255.255.255", "0.0.0.1"]
NUMBERS = ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0", "１２７.0.0.1", "127。0。0。1"]
SIX = [
    "::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "2002:a00:1::",
    "2001:0:a00:1::",
    "::a00:1",
    "fe80::1%25eth0",
    "fd00:ec2::254",
]

REFUSED = [
    *[told(f"84-{host}", f"http://{host}/a.png", INVALID) for host in LITERALS],
    *[told(f"85-{host}", f"http://{host}/a.png", INVALID) for host in NUMBERS],
    *[told(f"86-{host}", f"http://[{host}]/a.png", INVALID) for host in SIX],
    told("87-private", "http://inside.example/a.png", INVALID),
    told("87-mixed", "http://mixed.example/a.png", INVALID),
    told("87-metadata", "http://metadata.example/latest", INVALID),
    *[told(f"88-to-{host}", HERE, INVALID, redirect(f"http://{host}/"), 1) for host in ("10.0.0.1", "inside.example", "[::1]")],
    told("88-to-a-file", HERE, INVALID, redirect("file:///etc/passwd"), 1),
    told("88-to-another-port", HERE, INVALID, redirect("http://pictures.example:6379/"), 1),
    told("88-around", HERE, INVALID, redirect("/first"), 4),
    told("89-second-look", "http://rebinding.example/first", INVALID, redirect("/second"), 1),
    told("90-user", "http://user@pictures.example/a.png", INVALID),
    *[told(f"90-port-{port}", f"http://pictures.example:{port}/a.png", INVALID) for port in (22, 0, 99999)],
    told("91-no-such-name", "http://nobody.example/a.png", FAILED),
    told("91-404", HERE, FAILED, answer(b"", status="404 Not Found"), 1),
    told("91-500", HERE, FAILED, answer(b"", status="500 Oh"), 1),
    told("91-no-tls", "https://pictures.example/first", FAILED),
    told("91-nothing-said", HERE, FAILED, silent, 1),
    told("92-endless", HERE, "image_too_large", endless, 1),
    told("92-said", HERE, "image_too_large", HEAD + b"Content-Length: 20971521\r\n\r\n", 1),
    told("92-a-byte-now-and-then", HERE, FAILED, slow, 1),
    *[
        told(f"93-{coding}", HERE, FAILED, answer(PNG, headers=[f"Content-Encoding: {coding}"]), 1)
        for coding in ("gzip", "br", "zstd")
    ],
    told("94-html", HERE, "unsupported_image_format", answer(b"<html>", headers=["Content-Type: text/html"]), 1),
    told("94-pdf", HERE, "unsupported_image_format", answer(b"%PDF-1.7\n", headers=[]), 1),
    told("95-cut", HERE, "invalid_image", answer(PNG[:40]), 1),
    told("95-nothing", HERE, "invalid_image", answer(b""), 1),
    told("96-by-url", HERE, "image_too_many_pixels", answer(png(65_535, 65_535)), 1),
]


@pytest.mark.slow
@pytest.mark.parametrize(("url", "code", "page", "requests"), REFUSED)
def test_an_address_that_gives_no_image(
    fetching: httpx.Client,
    stranger: Stranger,
    provider: FakeProvider,
    books: Books,
    label: str,
    url: str,
    code: str,
    page: Any,
    requests: int,
):
    stranger.requests.clear()
    stranger.pages = {"/first": page or answer(PNG), "/second": answer(PNG)}
    sent = showing(url)
    refusal = fetching.post("/chat/completions", content=sent, headers={"x-request-id": label})
    assert_refused(refusal, 400, code, FIELD, label=label, sent=sent)
    assert len(stranger.requests) == requests
    assert provider.requests() == []
    assert assert_free(books, label, 400, code).holds == ()


def test_all_addresses_that_are_not_fetched_are_refused_in_one_text(fetching: httpx.Client):
    urls = ["http://10.0.0.1/", "http://0x7f.1/", "http://[::1]/", "http://inside.example/", "http://user@pictures.example/"]
    answers = [fetching.post("/chat/completions", content=showing(url)) for url in urls]
    assert {answer.content for answer in answers} == {answers[0].content}


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param({"/first": answer(PNG)}, id="at-once"),
        pytest.param({"/first": redirect("/second"), "/second": answer(PNG)}, id="row-88-one-hop"),
        pytest.param(
            {f"/{name}": redirect(f"/{after}") for name, after in (("first", "b"), ("b", "c"), ("c", "d"))}
            | {"/d": answer(PNG)},
            id="row-88-three-hops",
        ),
    ],
)
def test_an_image_is_fetched(fetching: httpx.Client, stranger: Stranger, provider: FakeProvider, pages: dict[str, Any]):
    stranger.requests.clear()
    stranger.pages = pages
    assert fetching.post("/chat/completions", content=showing(HERE)).status_code == 200
    assert len(stranger.requests) == len(pages)
    assert native.read("openai", provider.requests()[-1].json).images == (native.encoded(PNG),)


def test_row_89_a_name_that_changes_its_mind_is_asked_once(fetching: httpx.Client, stranger: Stranger, provider: FakeProvider):
    """What was judged is what is dialled."""
    stranger.pages = {"/first": answer(PNG)}
    assert fetching.post("/chat/completions", content=showing("http://rebinding.elsewhere/first")).status_code == 200
    again = fetching.post("/chat/completions", content=showing("http://rebinding.elsewhere/first"))
    assert_refused(again, 400, "invalid_image_url", FIELD)
