"""Rows 36 to 81: the body. The rows that the decoder alone decides are those of its own tests, sent over HTTP here."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.live.books import Books
from tests.live.catalog import MAX_OUTPUT_TOKENS
from tests.live.rows.raw import Post, chat
from tests.live.rows.refusals import assert_free, assert_refused, headers_of
from tests.unit.chat.rows import BAD_REQUESTS
from tests.unit.chat.rows.bodies import nested, part, raw, schema_format, tool

HELLO = {"role": "user", "content": "Hello"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
BODY_LIMIT_BYTES = 20 * 1024 * 1024


def case(name: str, sent: bytes, code: str, param: str | None, **more: Any) -> Any:
    """`more`: another status, or headers to send."""
    return pytest.param(sent, more.pop("status", 400), code, param, more, id=name)


def showing(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "Hello"}, part]}]


MODEL_ROWS = [
    case("row-41-10^6-brackets", b"[" * 10**6, "json_too_deep", None),
    case("row-41-10^6-brackets-in-a-field", raw(f'"x":{"[" * 10**6}'), "json_too_deep", None),
    case("row-42-10^6-digits", raw(f'"seed":{"1" * 10**6}'), "invalid_json", "seed"),
    case("row-46-strict", chat(made_up=1), "unknown_parameter", "made_up", x_strict="true"),
    case("row-47-strict", chat(api_base="http://a"), "unknown_parameter", "api_base", x_strict="true"),
    case("row-48-strict", chat(__proto__={}), "unknown_parameter", "__proto__", x_strict="true"),
    case("row-50-unknown", chat(model="no-such-model"), "model_not_found", "model", status=404),
    case("row-50-hostile-name", chat(model="../../etc/passwd\r\nx-evil: 1"), "model_not_found", "model", status=404),
    case("row-50-long-name", chat(model="m" * 256), "model_not_found", "model", status=404),
    case("row-51-disabled", chat(model="retired"), "model_not_found", "model", status=404),
    case("row-52-embeddings", chat(model="vectors"), "model_not_supported", "model"),
    case("row-60-30-mb", part({"type": "text", "text": "x" * 30 * 2**20}), "request_too_large", None, status=413),
    case("row-61-2-mb", chat(messages=[{"role": "user", "content": "x" * 2**21}]), "context_length_exceeded", "messages"),
    case("row-67-tokens", chat(max_tokens=MAX_OUTPUT_TOKENS + 1), "above_model_maximum", "max_tokens"),
    case("row-67-completion-tokens", chat(max_completion_tokens=10**6), "above_model_maximum", "max_completion_tokens"),
    case("row-79-tools", chat(model="plain", tools=[tool()]), "unsupported_parameter", "tools"),
    case("row-79-functions", chat(model="plain", functions=[{"name": "f"}]), "unsupported_parameter", "functions"),
    case("row-79-image", chat(model="plain", messages=showing(IMAGE)), "unsupported_parameter", "messages[0].content[1]"),
    case("row-79-audio", chat(messages=showing(AUDIO)), "audio_not_supported_by_model", "messages[0].content[1]"),
    case(
        "row-79-json-mode-strict",
        chat(model="plain", response_format={"type": "json_object"}),
        "unsupported_parameter",
        "response_format",
        x_strict="true",
    ),
    case("row-79-top-k-strict", chat(top_k=1), "unsupported_parameter", "top_k", x_strict="true"),
    case("unknown-fields-of-2-mb", chat(x="y" * 2**21), "request_too_large", None, status=413),
    case(
        "row-112-malformed",
        chat(messages=showing({"type": "file", "file_id": "file-1"})),
        "file_not_found",
        "messages[0].content[1].file_id",
    ),
]


@pytest.mark.parametrize(
    ("sent", "status", "code", "param", "headers"),
    [*[case(name, *row) for name, *row in BAD_REQUESTS], *MODEL_ROWS],
)
def test_a_body_is_refused(
    post: Post,
    provider: FakeProvider,
    books: Books,
    label: str,
    sent: bytes,
    status: int,
    code: str,
    param: str | None,
    headers: dict[str, str],
):
    """Nothing is held for it, nothing goes to a provider."""
    answer = post(sent, **headers)
    assert_refused(answer, status, code, param, label=label, sent=sent)
    assert provider.requests() == []
    if len(sent) <= BODY_LIMIT_BYTES:
        assert assert_free(books, label, status, code).holds == ()


def seen_by(provider: FakeProvider) -> dict[str, Any]:
    (seen,) = provider.requests()
    fields: dict[str, Any] = seen.json
    return fields


def adaptations(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200
    header: str = answer.headers.get("x-request-adaptations", "")
    return header.split(",") if header else []


@pytest.mark.parametrize("text", [pytest.param('"temperature":1,"temperature":0.5,"temperature":0.25', id="row-40")])
def test_the_last_of_duplicate_keys_wins(post: Post, provider: FakeProvider, text: str):
    answer = post(chat()[:-1] + b"," + text.encode() + b"}")
    assert adaptations(answer) == []
    assert seen_by(provider)["temperature"] == 0.25


IGNORED = [
    pytest.param(["made_up"], ["made_up"], id="row-46"),
    pytest.param(["stop_sequences", "max_output_tokens"], ["stop_sequences", "max_output_tokens"], id="row-46-two"),
    pytest.param(["__proto__"], ["__proto__"], id="row-48-proto"),
    pytest.param(["constructor"], ["constructor"], id="row-48-constructor"),
    pytest.param(["k" * 10_240], ["k" * 64 + "?"], id="row-48-10-kb"),
    pytest.param(["é, \r\nx-evil: 1"], ["?????x-evil:?1"], id="row-48-header-injection"),
    pytest.param([""], [""], id="row-48-empty"),
]


@pytest.mark.parametrize(("names", "listed"), IGNORED)
def test_unknown_fields_are_ignored_and_listed(
    post: Post, provider: FakeProvider, books: Books, label: str, names: list[str], listed: list[str]
):
    answer = post(chat(**{name: {"a": [1]} for name in names}))
    assert sorted(adaptations(answer)) == sorted(f"ignored={name}" for name in listed)
    assert "x-evil" not in answer.headers
    assert not set(names).intersection(seen_by(provider))
    assert books.of_request(label).charged_microcredits > 0


@pytest.mark.parametrize("count", [pytest.param(2_000, id="row-46-2000-fields")])
def test_many_unknown_fields_are_counted(post: Post, count: int):
    answer = post(chat(**{f"a_rather_long_name_{number}": 1 for number in range(count)}))
    listed = adaptations(answer)
    assert len(answer.headers["x-request-adaptations"]) <= 1024
    assert listed[0] == "ignored=a_rather_long_name_0"
    assert listed[-1].startswith("more=")


@pytest.mark.parametrize("slug", [pytest.param("plain", id="row-50-row-51-equal-bytes")])
def test_models_that_may_not_be_used_are_told_apart_by_nobody(post: Post, keys: dict[str, str], slug: str):
    """Unknown, disabled, and kept from this key: equal but for the name that was asked."""
    authorization = f"Bearer {keys['narrow']}"
    assert post(chat(model=slug), authorization=authorization).status_code == 200
    names = ["no-such-model", "retired", "main", "vectors"]
    answers = [post(chat(model=name), authorization=authorization) for name in names]
    for answer in answers:
        assert_refused(answer, 404, "model_not_found", "model")
    assert len({answer.text.replace(name, "it") for name, answer in zip(names, answers, strict=True)}) == 1
    lines = [[line for line in headers_of(answer) if line[0] != "content-length"] for answer in answers]
    assert all(line == lines[0] for line in lines)


@pytest.mark.parametrize("temperature", [pytest.param(value, id=f"row-62-{value}") for value in (None, 0, 2, 1.0)])
def test_temperatures_that_are_allowed(post: Post, provider: FakeProvider, temperature: float | None):
    assert adaptations(post(chat(temperature=temperature))) == []
    assert seen_by(provider).get("temperature") == temperature


FORMATS = [
    pytest.param({"type": "json_object"}, id="row-79-json-mode"),
    pytest.param(json.loads(schema_format(schema={"type": "object"}))["response_format"], id="row-79-json-schema"),
]


@pytest.mark.parametrize("response_format", FORMATS)
def test_a_format_that_the_model_lacks_is_adapted(post: Post, provider: FakeProvider, response_format: dict[str, Any]):
    answer = post(chat(model="plain", response_format=response_format))
    assert adaptations(answer) == ["response_format=instruction"]
    assert "response_format" not in seen_by(provider)


SCHEMAS = [pytest.param(nested(32), id="row-76-32-levels"), pytest.param({"$ref": "#/$defs/a"}, id="row-76-local-reference")]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_schema_at_the_limits(post: Post, provider: FakeProvider, schema: dict[str, Any]):
    assert adaptations(post(chat(tools=[tool(parameters=schema)]))) == []
    assert seen_by(provider)["tools"][0]["function"]["parameters"] == schema


@pytest.mark.parametrize("text", [pytest.param("a\0b", id="row-45-in-a-prompt")])
def test_a_prompt_may_carry_what_is_not_stored(post: Post, provider: FakeProvider, text: str):
    assert adaptations(post(chat(messages=[HELLO | {"content": text}]))) == []
    assert seen_by(provider)["messages"][0]["content"] == text
