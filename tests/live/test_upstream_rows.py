"""What a provider may do wrong, row by row of the catalogue of bad input (part 2F): the answer, and that it is free."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Booked, Books
from tests.live.catalog import MAX_OUTPUT_TOKENS, PRICES, PROVIDER_KEY
from tests.live.gateway import Server

INPUT_MICROCREDITS, OUTPUT_MICROCREDITS = PRICES["alone"]
PROSE = "Sentence of the upstream"
PROMPT = "Hello."
PROMPT_TOKENS = 2

both_modes = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def error(code: str | None = None, kind: str = "server_error") -> bytes:
    """An error body whose prose must never reach a client; it even repeats the key that it was called with."""
    return msgspec.json.encode({"error": {"message": f"{PROSE} {PROVIDER_KEY}", "type": kind, "code": code, "param": "x"}})


def failing(status: int, code: str | None = None, **fields: Any) -> Script:
    return Script(status=status, body=error(code), **fields)


def case(name: str, script: Script, status: int, code: str, *, model: str = "alone", **headers: str) -> Any:
    return pytest.param(script, model, status, code, headers, id=f"row-{name}")


ROWS = [
    case("128-400", failing(400), 400, "upstream_rejected_request"),
    case("128-422", failing(422), 400, "upstream_rejected_request"),
    case("128-413", failing(413), 413, "request_too_large"),
    case("61-verdict-of-the-provider", failing(400, "context_length_exceeded"), 400, "context_length_exceeded"),
    case("129-401", failing(401), 502, "upstream_auth_failed", x_should_retry="false"),
    case("129-402", failing(402), 502, "upstream_auth_failed", x_should_retry="false"),
    case("129-403", failing(403), 502, "upstream_auth_failed", x_should_retry="false"),
    case("129-quota", failing(429, "insufficient_quota"), 502, "upstream_auth_failed", x_should_retry="false"),
    case("130", failing(404), 502, "upstream_model_unavailable", x_should_retry="false"),
    case("131", failing(429), 429, "upstream_rate_limited", retry_after="1"),
    case("131-waits", failing(429, headers={"retry-after": "8"}), 429, "upstream_rate_limited", retry_after="8"),
    case("131-at-most-60", failing(429, headers={"retry-after": "900"}), 429, "upstream_rate_limited", retry_after="60"),
    case("132-409", failing(409), 502, "upstream_error"),
    case("132-425", failing(425), 502, "upstream_error"),
    case("132-500", failing(500), 502, "upstream_error"),
    case("132-502", failing(502), 502, "upstream_error"),
    case("132-503", failing(503), 503, "model_overloaded", retry_after="1"),
    case("132-529", failing(529, headers={"retry-after": "3"}), 503, "model_overloaded", retry_after="3"),
    case("132-reset", Script(cut_head=True, cut_with="rst"), 502, "upstream_error"),
    case("132-closed", Script(cut_head=True), 502, "upstream_error"),
    case("132-redirect", failing(302, headers={"location": "http://127.0.0.1:1/"}), 502, "upstream_error"),
    case("133-html", Script(body=b"<html>Sentence of the upstream</html>"), 502, "upstream_invalid_response"),
    case("133-bad-json", Script(body=b'data: {"choices": [\n\n'), 502, "upstream_invalid_response"),
    case("133-no-choices", Script(body=b'data: {"id": "x"}\n\n'), 502, "upstream_invalid_response"),
    case("133-not-utf8", Script(body=b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n'), 502, "upstream_invalid_response"),
    case("133-long-line", Script(body=b"data: " + b"x" * 1_100_000 + b"\n\n"), 502, "upstream_invalid_response"),
    case("134-408", failing(408), 504, "upstream_timeout"),
    case("134-504", failing(504), 504, "upstream_timeout"),
    case("134-no-head", Script(hang="head"), 504, "upstream_timeout"),
    case("134-no-body", Script(hang="body"), 504, "upstream_timeout"),
]  # fmt: skip


def post(http: httpx.Client, label: str, *, model: str = "alone", stream: bool = False, **fields: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "stream": stream, **fields}
    return http.post("/chat/completions", json=body, headers={"x-request-id": label})


def assert_free(books: Books, label: str, status: int, code: str) -> Booked:
    booked = books.of_request(label)
    assert (booked.status, booked.error_code) == (status, code)
    assert (booked.charged_microcredits, booked.entries, booked.states) == (0, (), ["voided"])
    return booked


@both_modes
@pytest.mark.parametrize(("script", "model", "status", "code", "headers"), ROWS)
def test_failure_before_the_first_byte(
    http: httpx.Client,
    provider: FakeProvider,
    books: Books,
    label: str,
    script: Script,
    model: str,
    status: int,
    code: str,
    headers: dict[str, str],
    stream,
):
    provider.script(model, script)
    response = post(http, label, model=model, stream=stream)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.headers["x-credits-used"] == "0"
    assert response.headers["x-request-id"] == label
    shown = {name: response.headers.get(name.replace("_", "-")) for name in headers}
    assert shown == headers
    answer = response.json()
    assert list(answer) == ["error"]
    kinds = {400: "invalid_request_error", 413: "invalid_request_error", 429: "rate_limit_error"}
    assert answer["error"]["type"] == kinds.get(status, "server_error")
    assert answer["error"]["code"] == code
    assert PROSE not in response.text
    assert PROVIDER_KEY not in response.text + str(response.headers)
    booked = assert_free(books, label, status, code)
    assert booked.end_state == ("refused" if status in {400, 413} else "failed")


@both_modes
@pytest.mark.parametrize("model", [pytest.param("encrypted", id="row-132-tls")])
def test_encryption_that_fails(http: httpx.Client, provider: FakeProvider, books: Books, label: str, model: str, stream):
    """The whole chain fails, and the failure of the model asked for is told."""
    provider.script("second", Script(status=500))
    response = post(http, label, model=model, stream=stream)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_error")
    assert_free(books, label, 502, "upstream_error")


COMMENT = b": " + b"x" * 65_533 + b"\n"
TOO_LARGE = [
    pytest.param(Script(body=COMMENT, repeats=400), True, id="row-136-stream"),
    pytest.param(Script(body=b"0" * 2**20, repeats=65, framing="chunked"), False, id="row-136-whole"),
    pytest.param(Script(body=b"0" * 2**20, repeats=65), False, id="row-136-whole-and-announced"),
]


@pytest.mark.parametrize(("script", "stream"), TOO_LARGE)
def test_an_answer_that_is_too_large(
    http: httpx.Client, provider: FakeProvider, books: Books, label: str, script: Script, stream
):
    """More bytes than the tokens asked for could ever take, or than any whole answer may: the connection is closed."""
    provider.script("main", script)
    response = post(http, label, model="main", stream=stream, max_tokens=1)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_response_too_large")
    assert_free(books, label, 502, "upstream_response_too_large")
    provider.wait_for(lambda requests: requests[0].closed_s is not None)


def test_a_long_stream_is_not_too_large(http: httpx.Client, provider: FakeProvider, books: Books, label: str):
    """A chunk for each token, as wide as chunks with alternatives and padding are: megabytes, and no token too many."""
    count = 2_000
    wide = {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}], "obfuscation": "x" * 1_000}
    last = {
        "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": count},
    }
    provider.script("main", Script(events=(*[msgspec.json.encode(wide)] * count, msgspec.json.encode(last), b"[DONE]")))
    response = post(http, label, model="main", stream=True, max_tokens=count)
    assert response.text.count("word ") == count
    assert response.text.endswith("data: [DONE]\n\n")
    assert (booked := books.of_request(label)).completion_tokens == count
    assert booked.end_state == "length"


WORDS = tuple(
    msgspec.json.encode({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
    for word in ("one ", "two ", "three ")
)
BREAKS = [
    pytest.param(Script(events=(*WORDS, b"x" * 1_100_000)), "upstream_invalid_response", id="row-137-endless-line"),
    pytest.param(Script(events=(*WORDS, *[b"0" * 1_000_000] * 20)), "upstream_invalid_response", id="row-137-no-chunks"),
    pytest.param(Script(cut_after=4), "upstream_error", id="row-137-closed"),
    pytest.param(Script(cut_after=4, cut_with="rst"), "upstream_error", id="row-137-reset"),
    pytest.param(Script(cut_after=4, framing="close"), "upstream_error", id="row-137-ended-without-a-reason"),
    pytest.param(Script(error_after=4), "upstream_error", id="row-137-error-event"),
    pytest.param(Script(error_after=4, error="no object"), "upstream_invalid_response", id="row-137-unreadable-event"),
    pytest.param(Script(hang_after=4), "upstream_timeout", id="row-137-silent"),
    pytest.param(Script(delay_between_s=0.3), "upstream_timeout", id="row-137-over-its-total-time"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("script", "code"), BREAKS)
def test_a_stream_that_breaks_after_content(
    http: httpx.Client, provider: FakeProvider, books: Books, label: str, script: Script, code: str
):
    """An error as the last event, no `[DONE]`, and what was delivered is charged: the prompt and the text, by their bytes."""
    provider.script("alone", msgspec.structs.replace(script, text="one two three four five six"))
    response = post(http, label, stream=True)
    assert response.status_code == 200
    *events, last = response.text.removesuffix("\n\n").split("\n\n")
    answer = msgspec.json.decode(last.removeprefix("data: "))
    assert (answer["error"]["type"], answer["error"]["code"]) == ("server_error", code)
    assert "[DONE]" not in response.text
    chunks = [msgspec.json.decode(event.removeprefix("data: ")) for event in events]
    text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert text.startswith("one two three ")
    booked = books.of(chunks[0]["id"])
    assert (booked.status, booked.end_state, booked.error_code) == (200, "cut", code)
    assert (booked.usage_source, booked.prompt_tokens) == ("estimated", PROMPT_TOKENS)
    assert booked.completion_tokens == -(-len(text) // 4)
    cost = booked.prompt_tokens * INPUT_MICROCREDITS + booked.completion_tokens * OUTPUT_MICROCREDITS
    assert booked.charged_microcredits == booked.entry_microcredits == cost
    assert booked.states == ["settled"]


ENDS = [
    pytest.param(Script(is_done_sent=False), "stop", id="row-138-no-done"),
    pytest.param(Script(is_done_sent=False, framing="close"), "stop", id="row-138-no-done-and-closed"),
    pytest.param(Script(is_done_sent=False, usage_on="choice"), "stop", id="row-138-usage-with-the-reason"),
    pytest.param(Script(has_comments=True, line_end="\r"), "stop", id="comments-and-bare-returns"),
    pytest.param(Script(finish_reason="content_filter"), "content_filter", id="row-139-content-filter"),
    pytest.param(Script(finish_reason="content_filter", text=""), "content_filter", id="row-139-before-any-text"),
    pytest.param(Script(finish_reason="length"), "length", id="length"),
    pytest.param(Script(finish_reason="model_length"), "length", id="length-by-another-word"),
    pytest.param(Script(finish_reason="eos"), "stop", id="a-reason-of-its-own"),
]


@both_modes
@pytest.mark.parametrize(("script", "reason"), ENDS)
def test_a_good_end(http: httpx.Client, provider: FakeProvider, books: Books, label: str, script: Script, reason: str, stream):
    usage = {"prompt_tokens": 11, "completion_tokens": 5}
    provider.script("alone", msgspec.structs.replace(script, usage=usage))
    response = post(http, label, stream=stream)
    assert response.status_code == 200
    if stream:
        *events, done = response.text.removesuffix("\n\n").split("\n\n")
        assert done == "data: [DONE]"
        chunks = [msgspec.json.decode(event.removeprefix("data: ")) for event in events]
        reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
        last = chunks[-1]
    else:
        last = response.json()
        reasons = [choice["finish_reason"] for choice in last["choices"]]
    assert reasons == [reason]
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (11, 5)
    booked = books.of(last["id"])
    assert booked.entry_microcredits == 11 * INPUT_MICROCREDITS + 5 * OUTPUT_MICROCREDITS
    assert booked.usage_source == "reported"
    assert booked.end_state == ("length" if reason == "length" else "done")


@pytest.mark.parametrize(
    "script",
    [Script(cut_after=4), Script(cut_after=4, cut_with="rst"), Script(hang_after=4)],
    ids=["row-138-closed", "row-138-reset", "row-138-silent"],
)
def test_a_connection_that_breaks_when_all_was_said(
    http: httpx.Client, provider: FakeProvider, books: Books, label: str, script: Script
):
    """The finish reason has come, the usage has not: the answer is whole, and its usage is estimated."""
    provider.script("alone", msgspec.structs.replace(script, text="one two."))
    response = post(http, label, stream=True)
    assert response.text.endswith("data: [DONE]\n\n")
    assert '"error"' not in response.text
    booked = books.of_request(label)
    assert (booked.end_state, booked.usage_source) == ("done", "estimated")
    assert (booked.prompt_tokens, booked.completion_tokens) == (PROMPT_TOKENS, 2)
    assert booked.entry_microcredits == PROMPT_TOKENS * INPUT_MICROCREDITS + 2 * OUTPUT_MICROCREDITS


TEXT = "Twenty letters, yes."
ESTIMATE = (PROMPT_TOKENS, 5)
USAGES = [
    pytest.param(None, ESTIMATE, id="missing"),
    pytest.param({"prompt_tokens": 0, "completion_tokens": 0}, ESTIMATE, id="zero"),
    pytest.param({"prompt_tokens": 9, "completion_tokens": 0}, ESTIMATE, id="zero-for-text"),
    pytest.param({"prompt_tokens": -1, "completion_tokens": 4}, ESTIMATE, id="negative"),
    pytest.param({"prompt_tokens": 3, "completion_tokens": "4"}, ESTIMATE, id="text"),
    pytest.param({"prompt_tokens": 3, "completion_tokens": 4.5}, ESTIMATE, id="fraction"),
    pytest.param({"prompt_tokens": True, "completion_tokens": 4}, ESTIMATE, id="boolean"),
    pytest.param({"prompt_tokens": 3, "completion_tokens": None}, ESTIMATE, id="null"),
    pytest.param({"prompt_tokens": 3, "completion_tokens": 2**70}, ESTIMATE, id="beyond-64-bits"),
    pytest.param({}, ESTIMATE, id="empty"),
    pytest.param({"prompt_tokens": 3, "completion_tokens": 4}, (3, 4), id="no-total"),
    pytest.param({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 900}, (3, 4), id="wrong-total"),
    pytest.param({"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": "x"}, (3, 4), id="odd-details"),
    pytest.param(
        {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 50}}, (3, 4), id="parts-above"
    ),
]


@both_modes
@pytest.mark.parametrize(("usage", "expected"), USAGES)
def test_usage_of_odd_shapes(
    http: httpx.Client, provider: FakeProvider, books: Books, label: str, usage: Any, expected: tuple[int, int], stream
):
    """What cannot be read as a count is replaced by an estimate, never by nothing."""
    provider.script("alone", Script(text=TEXT, usage=usage))
    post(http, label, stream=stream)
    booked = books.of_request(label)
    assert (booked.prompt_tokens, booked.completion_tokens) == expected
    assert booked.usage_source == ("estimated" if expected is ESTIMATE else "reported")
    assert booked.entry_microcredits == expected[0] * INPUT_MICROCREDITS + expected[1] * OUTPUT_MICROCREDITS


@both_modes
@pytest.mark.parametrize(
    "usage",
    [
        pytest.param({"prompt_tokens": 10**6, "completion_tokens": 5}, id="prompt"),
        pytest.param({"prompt_tokens": 2, "completion_tokens": 128_001}, id="completion"),
        pytest.param({"prompt_tokens": 10**6, "completion_tokens": 10**9}, id="both"),
    ],
)
def test_usage_beyond_what_is_possible_is_estimated(
    http: httpx.Client, server: Server, provider: FakeProvider, books: Books, label: str, usage: Any, stream
):
    provider.script("alone", Script(text=TEXT, usage=usage))
    response = post(http, label, stream=stream)
    assert response.status_code == 200
    booked = books.of_request(label)
    assert (booked.prompt_tokens, booked.completion_tokens, booked.usage_source) == (*ESTIMATE, "estimated")
    assert booked.entry_microcredits == ESTIMATE[0] * INPUT_MICROCREDITS + ESTIMATE[1] * OUTPUT_MICROCREDITS
    assert {record["cause"] for record in anomalies(server, booked)} == {"impossible usage"}


@both_modes
def test_usage_above_the_bound_is_charged_up_to_it_and_the_rest_is_ours(
    http: httpx.Client, server: Server, provider: FakeProvider, books: Books, label: str, stream
):
    """A provider that counts more than we held for: never at the client's cost, and never out of sight."""
    usage = {"prompt_tokens": 20_000, "completion_tokens": MAX_OUTPUT_TOKENS + 1}
    provider.script("alone", Script(text=TEXT, usage=usage))
    response = post(http, label, stream=stream)
    assert response.status_code == 200
    booked = books.of_request(label)
    actual = 20_000 * INPUT_MICROCREDITS + (MAX_OUTPUT_TOKENS + 1) * OUTPUT_MICROCREDITS
    assert booked.charged_microcredits == booked.entry_microcredits < MAX_OUTPUT_TOKENS * OUTPUT_MICROCREDITS + 100_000
    assert booked.overrun_microcredits == actual - booked.charged_microcredits
    assert booked.usage_source == "reported"
    assert [record["cause"] for record in anomalies(server, booked)] == ["usage above the bound"]


def anomalies(server: Server, booked: Booked) -> list[dict[str, Any]]:
    """What was logged of the usage of a generation; nothing of what was said in it."""
    records = [msgspec.json.decode(line) for line in server.log_text().splitlines() if booked.generation in line]
    assert all("Twenty" not in str(record) for record in records)
    return [record for record in records if record["event"] == "anomalous usage"]


def test_usage_that_decreases_counts_as_it_was_said_last(
    http: httpx.Client, server: Server, provider: FakeProvider, books: Books, label: str
):
    said = [{"prompt_tokens": 9, "completion_tokens": 90}, {"prompt_tokens": 3, "completion_tokens": 4}]
    provider.script("alone", Script(text=TEXT, usage=said))
    post(http, label, stream=True)
    booked = books.of_request(label)
    assert (booked.prompt_tokens, booked.completion_tokens, booked.usage_source) == (3, 4, "reported")
    assert [record["cause"] for record in anomalies(server, booked)] == ["usage decreased"]


@pytest.mark.parametrize("place", ["every", "own"])
def test_usage_that_is_said_more_than_once_counts_once(
    http: httpx.Client, provider: FakeProvider, books: Books, label: str, place: Any
):
    said = [{"prompt_tokens": 3, "completion_tokens": count} for count in (1, 2, 4)]
    provider.script("alone", Script(text="One two.", usage=said, usage_on=place))
    post(http, label, stream=True)
    assert books.of_request(label).entry_microcredits == 3 * INPUT_MICROCREDITS + 4 * OUTPUT_MICROCREDITS


BESIDE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 93, "completion_tokens_details": {"reasoning_tokens": 86}}
INSIDE = {"prompt_tokens": 3, "completion_tokens": 90, "completion_tokens_details": {"reasoning_tokens": 90}}


@both_modes
@pytest.mark.parametrize(
    ("text", "reason", "usage"),
    [pytest.param("", "length", INSIDE, id="without-text"), pytest.param(TEXT, "stop", BESIDE, id="beside-the-completion")],
)
def test_reasoning_is_work(
    http: httpx.Client, server: Server, provider: FakeProvider, books: Books, label: str, text: str, reason: str, usage, stream
):
    provider.script("alone", Script(text=text, finish_reason=reason, usage=usage))
    assert post(http, label, stream=stream).status_code == 200
    booked = books.of_request(label)
    assert (booked.entry_microcredits, booked.usage_source) == (3 * INPUT_MICROCREDITS + 90 * OUTPUT_MICROCREDITS, "reported")
    assert anomalies(server, booked) == []
