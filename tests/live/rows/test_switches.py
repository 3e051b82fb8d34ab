"""What can be switched by a header or the query: `x-strict`, `x-disable-fallback` and `dry_run`.

Each exists to prevent something, most of all a charge: what is neither on nor off is refused, never read as off.
"""

from __future__ import annotations

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.gateway import Server
from tests.live.rows.raw import CHAT, Line, chat, exchange, request
from tests.live.rows.refusals import assert_free, assert_refused

ON = ["true", "TRUE", "1", " True "]
OFF = ["false", "False", "0"]
NEITHER = ["", "yes", "on", "2", "truee", "null", "true, true", "\xe9"]
SWITCHES = ["x-strict", "x-disable-fallback"]


def test_what_is_on(server: Server, keys: dict[str, str], provider: FakeProvider):
    """A strict request refuses what would be adapted; without its fallback a failure is told; a dry run asks nobody."""
    for value in ON:
        strict = exchange(server.port, request(keys["acme"], ("x-strict", value), body=chat(made_up=1)))
        assert_refused(strict, 400, "unknown_parameter", "made_up")
        provider.script("first", Script(status=500))
        alone = exchange(server.port, request(keys["acme"], ("x-disable-fallback", value), body=chat(model="first")))
        assert_refused(alone, 502, "upstream_error")
        provider.reset()
        target = f"{CHAT}?a=%C3%A9&dry_run={value.strip()}"
        assert exchange(server.port, request(keys["acme"], target=target)).json()["object"] == "chat.completion.quote"
        assert provider.requests() == []


def test_what_is_off(server: Server, keys: dict[str, str], provider: FakeProvider):
    for value in OFF:
        provider.script("first", Script(status=500))
        lines = [(name, value) for name in SWITCHES]
        sent = request(keys["acme"], *lines, target=f"{CHAT}?dry_run={value}", body=chat(model="first", made_up=1))
        answer = exchange(server.port, sent)
        assert answer.status_code == 200
        assert answer.headers["x-model-used"] == "second"
        assert answer.headers["x-request-adaptations"] == "ignored=made_up"


QUERIES = ["", "yes", "True%20x", "2", "true&dry_run=false", "true&dry_run=true", "%C3%A9", "%ff"]
FAULTS = [
    *[pytest.param("", (name, value), name, id=f"{name}-{value!a}") for name in SWITCHES for value in NEITHER],
    *[pytest.param(f"?dry_run={value}", None, "dry_run", id=f"dry_run={value}") for value in QUERIES],
    pytest.param("?dry_run", None, "dry_run", id="dry_run"),
    pytest.param("?a=b&dry_run&c", None, "dry_run", id="dry_run-between-others"),
]


@pytest.mark.parametrize(("query", "line", "param"), FAULTS)
def test_what_is_neither(
    server: Server,
    keys: dict[str, str],
    provider: FakeProvider,
    books: Books,
    label: str,
    query: str,
    line: Line | None,
    param: str,
):
    """Refused before anything is asked or charged, and remembered."""
    lines = [("x-request-id", label), *([line] if line else [])]
    answer = exchange(server.port, request(keys["acme"], *lines, target=CHAT + query))
    assert_refused(answer, 400, "invalid_value", param, label=label)
    assert provider.requests() == []
    assert assert_free(books, label, 400, "invalid_value").holds == ()


def test_a_switch_on_two_lines(server: Server, keys: dict[str, str]):
    """HTTP reads them as one list, which is no switch."""
    answer = exchange(server.port, request(keys["acme"], ("x-strict", "true"), ("x-strict", "false")))
    assert_refused(answer, 400, "invalid_value", "x-strict")


def test_nobody_is_told_without_a_key(server: Server):
    answer = exchange(server.port, request(None, ("x-strict", "yes"), target=f"{CHAT}?dry_run"))
    assert_refused(answer, 401, "missing_api_key")


@pytest.mark.parametrize("query", ["?a=%C3%A9", "?%ff=1", "?dry_run%00=1", "?&&=&", "?a=" + "b" * 4_000])
def test_what_else_stands_in_the_query_does_not_matter(http: httpx.Client, query: str):
    assert (
        http.post(f"/chat/completions{query}", content=chat(), headers={"content-type": "application/json"}).status_code == 200
    )
