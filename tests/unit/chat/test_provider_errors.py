"""What a provider says when it fails, whatever it says, does not reach the client: one status, one code, words of ours."""

from __future__ import annotations

import json

import msgspec
import pytest

from chat.errors import UpstreamFailure
from chat.providers.base import Asked, StreamDecoder
from chat.providers.registry import ADAPTERS
from chat.schema.route import Dialect
from tests.unit.chat.values import PROVIDER, TENANT, model, request, target

CANARY = "sk-upstream-canary"
DIALECTS: tuple[Dialect, ...] = ("openai", "anthropic", "gemini")

WORDS: dict[Dialect, dict] = {
    "openai": {"error": {"message": CANARY, "type": CANARY, "param": CANARY, "code": CANARY}},
    "anthropic": {"type": "error", "error": {"type": CANARY, "message": CANARY}, "request_id": CANARY},
    "gemini": {"error": {"code": 500, "message": CANARY, "status": CANARY, "details": [{"reason": CANARY}]}},
}
BODIES = {
    "own-shape": lambda dialect: json.dumps(WORDS[dialect]).encode(),
    "other-shape": lambda _dialect: json.dumps({"detail": CANARY, "message": {"deep": [CANARY]}}).encode(),
    "html": lambda _dialect: f"<html>{CANARY}</html>".encode(),
    "no-text": lambda _dialect: b"\xff\xfe" + CANARY.encode(),
}
SAID = {"retry-after": CANARY, "x-request-id": CANARY, "www-authenticate": CANARY, "x-should-retry": CANARY}


def asked_of(dialect: Dialect) -> Asked:
    provider = msgspec.structs.replace(PROVIDER, dialect=dialect, api_key=CANARY)
    aimed = msgspec.structs.replace(target(), provider=provider)
    return Asked(request(), model(), aimed, TENANT)


def read(decoder: StreamDecoder, data: bytes) -> None:
    decoder.decode("error", data)
    decoder.flush()


def assert_silent(failure: UpstreamFailure) -> None:
    assert CANARY.encode() not in failure.envelope()
    assert CANARY not in repr(failure.headers)
    assert CANARY not in repr(failure)


@pytest.mark.parametrize(
    ("status", "answered", "code"),
    [
        (400, 400, "upstream_rejected_request"),
        (422, 400, "upstream_rejected_request"),
        (413, 413, "request_too_large"),
        (401, 502, "upstream_auth_failed"),
        (402, 502, "upstream_auth_failed"),
        (403, 502, "upstream_auth_failed"),
        (404, 502, "upstream_model_unavailable"),
        (408, 504, "upstream_timeout"),
        *[(status, 502, "upstream_error") for status in (405, 409, 410, 421, 425, 451, 499)],
        (429, 429, "upstream_rate_limited"),
        (500, 502, "upstream_error"),
        (502, 502, "upstream_error"),
        (503, 503, "model_overloaded"),
        (504, 504, "upstream_timeout"),
        (529, 503, "model_overloaded"),
    ],
)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_status_has_one_meaning_in_every_dialect(dialect, body, status, answered, code):
    failure = ADAPTERS[dialect].failure(status, SAID, BODIES[body](dialect))
    assert (failure.status, failure.code) == (answered, code)
    assert_silent(failure)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_instead_of_an_answer_says_nothing_of_the_providers(dialect, body):
    asked, adapter = asked_of(dialect), ADAPTERS[dialect]
    data = BODIES[body](dialect)
    with pytest.raises(UpstreamFailure) as whole:
        adapter.reply(asked, data)
    assert_silent(whole.value)
    with pytest.raises(UpstreamFailure) as streamed:
        read(adapter.stream(asked), data)
    assert_silent(streamed.value)
