"""A document of thirty pages, from real tools, on models that read it, see it, or can do neither: what they get, and its charge."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image

from billing.pricing import microcredits
from tests.fakes import pdfs
from tests.fakes.launch import FakeProvider
from tests.fakes.papers import FIELD, PAGES, PAPER, SCANNED, SCRIPTED, SCRIPTS, TURNED, on_page
from tests.fakes.pictures import picture
from tests.fakes.script import Script
from tests.live import native
from tests.live.answers import Answer, ask, cost_of
from tests.live.books import Booked, Books
from tests.live.catalog import PAGE_FEES

LETTER, LANDSCAPE = (1583, 2048), (2048, 1583)
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
FORMS = pytest.mark.parametrize("form", ["inline", "file_id"])


def fresh(data: bytes | None = None) -> bytes:
    """A document that no test has sent before: what follows its end belongs to it, and changes nothing of what it says."""
    fresh.count += 1  # type: ignore[attr-defined]
    return (PAPER.read_bytes() if data is None else data) + b"\n%% copy %d\n" % fresh.count  # type: ignore[attr-defined]


fresh.count = 0  # type: ignore[attr-defined]


def inline(data: bytes, filename: str = "paper.pdf") -> dict[str, Any]:
    uri = f"data:application/pdf;base64,{base64.b64encode(data).decode()}"
    return {"type": "file", "file": {"file_data": uri, "filename": filename}}


def file_part(client: OpenAI, data: bytes, form: str) -> dict[str, Any]:
    if form == "inline":
        return inline(data)
    return {"type": "file", "file": {"file_id": client.files.create(file=("paper.pdf", data), purpose="user_data").id}}


def about(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "What does it say?"}, *parts]}]


def page_fee(model: str, pages: int) -> int:
    return pages * microcredits(PAGE_FEES[model]) if pages else 0


def lines_of(books: Books, answer: Answer) -> list[tuple[str, int, int]]:
    [[lines]] = books.rows("SELECT lines FROM billing_usagerecord WHERE generation = %s", answer.id)
    told = native.decoded(lines)
    return [(line["kind"], line["quantity"], line["amount_microcredits"]) for line in told if line["kind"] == "pdf_page"]


def assert_charged(books: Books, answer: Answer, pages: int) -> Booked:
    """The tokens, and a line of the receipt for pages that were never converted before."""
    booked = books.of(answer.id)
    fee = page_fee(answer.model, pages)
    assert answer.charged_microcredits == booked.charged_microcredits == booked.entry_microcredits == cost_of(answer) + fee
    assert lines_of(books, answer) == ([("pdf_page", pages, fee)] if pages else [])
    assert booked.overrun_microcredits == 0
    assert "open" not in booked.states
    return booked


def adaptations(answer: Answer) -> str | None:
    """In a header, or at the end of a stream that had to open before the pages were drawn."""
    late = ",".join(answer.extra.get("adaptations", ()))
    return answer.headers.get("x-request-adaptations", late or None)


def sizes(images: tuple[str, ...]) -> list[tuple[int, int]]:
    return [Image.open(io.BytesIO(base64.b64decode(image))).size for image in images]


def text_of(seen: native.Native) -> str:
    [(speaker, text)] = seen.said
    assert speaker == "user"
    return text


def assert_tells_all(text: str) -> None:
    assert text.startswith("What does it say?The file paper.pdf has 30 pages.")
    places = [text.index(f"Page {number}:") for number in range(1, PAGES + 1)]
    assert places == sorted(places)
    assert all(on_page(number) in text for number in range(1, PAGES))
    assert all(script in text[places[SCRIPTED - 1] :] for script in SCRIPTS)
    assert FIELD in text[: places[1]]
    assert text[places[SCANNED - 1] :] == f"Page {SCANNED}:\n(no text)"


@pytest.mark.slow
@FORMS
@STREAMS
def test_a_model_that_sees(client: OpenAI, provider: FakeProvider, books: Books, stream, form: str):
    """It gets the text and then an image of each page, upright as each is shown; the second time they cost nothing."""
    provider.script("seeing", Script(text="Much."))
    part = file_part(client, fresh(), form)
    for pages in (PAGES, 0):
        answer = ask(client, about(part), model="seeing", stream=stream)
        assert adaptations(answer) == "pdf=text+pages:30"
        assert_charged(books, answer, pages)
        seen = native.read("openai", provider.requests()[-1].json)
        assert_tells_all(text_of(seen))
        assert sizes(seen.images) == [LANDSCAPE if number == TURNED else LETTER for number in range(1, PAGES + 1)]
        assert seen.documents == ()


@pytest.mark.slow
@FORMS
@STREAMS
def test_a_model_that_only_hears(client: OpenAI, provider: FakeProvider, books: Books, stream, form: str):
    """It gets the text, as every model that does not see."""
    provider.script("listening", Script(text="Much."))
    part = file_part(client, fresh(), form)
    for pages in (PAGES, 0):
        answer = ask(client, about(part), model="listening", stream=stream)
        assert adaptations(answer) == "pdf=text"
        assert_charged(books, answer, pages)
        seen = native.read("openai", provider.requests()[-1].json)
        assert_tells_all(text_of(seen))
        assert (seen.images, seen.documents) == ((), ())


@FORMS
@STREAMS
def test_a_model_that_reads_pdfs(client: OpenAI, provider: FakeProvider, books: Books, stream, form: str):
    """It gets the file as it came, and nothing is converted."""
    provider.script("reading", Script(text="Much."))
    data = fresh()
    answer = ask(client, about(file_part(client, data, form)), model="reading", stream=stream)
    assert adaptations(answer) is None
    assert_charged(books, answer, 0)
    assert native.read("openai", provider.requests()[-1].json).documents == (base64.b64encode(data).decode(),)


@pytest.mark.slow
@FORMS
@STREAMS
def test_the_sandbox_that_reads_text(client: OpenAI, books: Books, stream, form: str):
    part = file_part(client, fresh(), form)
    for pages in (PAGES, 0):
        answer = ask(client, about(part), model="sandbox-text", stream=stream, max_tokens=60)
        assert adaptations(answer) == "pdf=text"
        assert f"Page 1:\n{on_page(1)}" in answer.text
        assert_charged(books, answer, pages)


@pytest.mark.slow
def test_pages_are_free_for_every_model_and_mode_once_they_were_paid(client: OpenAI, provider: FakeProvider, books: Books):
    part = inline(fresh())
    assert_charged(books, ask(client, about(part), model="listening"), PAGES)
    assert_charged(books, ask(client, about(part), model="seeing", stream=True), 0)
    assert len(native.read("openai", provider.requests()[-1].json).images) == PAGES


def test_each_workspace_pays_for_itself(client: OpenAI, keys: dict[str, str], provider: FakeProvider, books: Books):
    data = fresh(pdfs.of_pages(["Mine"]))
    assert_charged(books, ask(client, about(inline(data)), model="listening"), 1)
    other = client.with_options(api_key=keys["modest"])
    assert_charged(books, ask(other, about(inline(data)), model="listening", max_tokens=5), 1)


@pytest.mark.slow
def test_of_requests_at_the_same_time_one_pays(client: OpenAI, provider: FakeProvider, books: Books):
    part = inline(fresh())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(client, about(part), model="seeing"), range(8)))
    paid = [answer for answer in answers if lines_of(books, answer)]
    assert len(paid) == 1
    for answer in answers:
        assert_charged(books, answer, PAGES if answer is paid[0] else 0)
    images = {native.read("openai", request.json).images for request in provider.requests()}
    assert [len(one) for one in images] == [PAGES]


@pytest.mark.slow
@STREAMS
def test_a_fallback_gets_what_it_can_take_at_its_own_fee(client: OpenAI, provider: FakeProvider, books: Books, stream):
    data = fresh()
    provider.script("reading-first", Script(status=503))
    provider.script("listening", Script(status=503))
    answer = ask(client, about(inline(data)), model="reading-first", stream=stream)
    assert (answer.model, adaptations(answer)) == ("seeing", "pdf=text+pages:30")
    assert_charged(books, answer, PAGES)
    bodies = [native.read("openai", request.json) for request in provider.requests()]
    assert [(len(body.documents), len(body.images)) for body in bodies] == [(1, 0), (0, 0), (0, PAGES)]


@pytest.mark.slow
def test_a_fallback_that_reads_pdfs_costs_no_page(client: OpenAI, provider: FakeProvider, books: Books):
    provider.script("seeing-first", Script(status=503))
    answer = ask(client, about(inline(fresh())), model="seeing-first")
    assert (answer.model, adaptations(answer)) == ("reading", None)
    assert_charged(books, answer, 0)


@pytest.mark.slow
def test_pages_of_a_failed_request_stay_converted_and_free(client: OpenAI, provider: FakeProvider, books: Books, label: str):
    provider.script("seeing", Script(status=500))
    part = inline(fresh())
    with pytest.raises(openai.InternalServerError):
        ask(client, about(part), model="seeing", extra_headers={"x-request-id": label})
    assert books.of_request(label).charged_microcredits == 0
    provider.reset()
    assert_charged(books, ask(client, about(part), model="seeing"), 0)


def test_a_dry_run_tells_the_fee_and_pays_none(client: OpenAI, http: httpx.Client, provider: FakeProvider, books: Books):
    part = inline(fresh())
    fields: dict[str, Any] = {"model": "seeing", "messages": about(part), "max_tokens": 5}

    def quoted(pages: int) -> int:
        """The credits that would be held."""
        body = http.post("/chat/completions?dry_run=true", json=fields).json()
        [step] = body["route"]
        assert (step["pdf_pages"], step["adaptations"]) == (pages, ["pdf=text+pages:30"])
        tokens = step["prompt_tokens_bound"] * 20 + 5 * 80
        assert microcredits(str(body["credits_high"])) == tokens + page_fee("seeing", pages)
        return microcredits(str(body["credits_held"]))

    held = [quoted(PAGES), quoted(PAGES)]
    answer = ask(client, about(part), model="seeing", max_tokens=5)
    assert assert_charged(books, answer, PAGES).held_microcredits == held[0] == held[1]
    quoted(0)


def test_strict_does_not_convert(client: OpenAI, provider: FakeProvider):
    strict = client.with_options(default_headers={"x-strict": "true"})
    part = inline(fresh(pdfs.of_pages(["Plain"])))
    with pytest.raises(openai.BadRequestError) as caught:
        ask(strict, about(part), model="seeing")
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "pdf")
    assert ask(strict, about(part), model="reading").model == "reading"


def a_scan() -> bytes:
    return fresh(pdfs.scan(picture("JPEG", (300, 300)), 300, 300))


@STREAMS
def test_a_scan_is_refused_by_a_model_that_does_not_see(
    client: OpenAI, provider: FakeProvider, books: Books, label: str, stream
):
    """The model asked decides, whoever its chain has."""
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, about(inline(a_scan())), model="unseeing-first", stream=stream, extra_headers={"x-request-id": label})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "messages[0].content[1]")
    assert "has no text" in str(caught.value)
    assert provider.requests() == []
    assert books.of_request(label).holds == ()


def test_a_scan_goes_around_a_fallback_that_does_not_see(client: OpenAI, provider: FakeProvider, books: Books):
    provider.script("reading-first", Script(status=503))
    answer = ask(client, about(inline(a_scan())), model="reading-first")
    assert (answer.model, answer.headers["x-fallback-depth"]) == ("seeing", "2")
    assert_charged(books, answer, 1)
    assert [request.json["model"] for request in provider.requests()] == ["reading-first", "seeing"]


def test_a_long_document_goes_around_a_fallback_whose_window_its_text_does_not_fit(
    client: OpenAI, provider: FakeProvider, books: Books
):
    """How long it is comes out only when it is converted."""
    provider.script("reading-second", Script(status=503))
    answer = ask(client, about(inline(fresh())), model="reading-second")
    assert (answer.model, answer.headers["x-fallback-depth"]) == ("seeing", "2")
    assert_charged(books, answer, PAGES)
    assert [request.json["model"] for request in provider.requests()] == ["reading-second", "seeing"]
