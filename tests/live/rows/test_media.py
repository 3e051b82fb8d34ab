"""Rows 17 to 19: bodies of another kind. The same answers at the chat endpoint and at the management API."""

from __future__ import annotations

import gzip

import pytest

from tests.live.gateway import Server
from tests.live.rows.raw import CHAT, Line, chat, exchange, head, request
from tests.live.rows.refusals import assert_refused


@pytest.fixture
def managed(server: Server, keys: dict[str, str]) -> str:
    """Where keys of acme are made."""
    listed = exchange(server.port, head(("authorization", f"Bearer {keys['manager']}"), method="GET", target="/api/workspaces"))
    [workspace] = listed.json()["data"]
    return f"/api/workspaces/{workspace['id']}/keys"


def row(number: int, name: str, code: str, *lines: Line) -> object:
    return pytest.param(code, lines, id=f"row-{number}-{name}")


def kind(name: str) -> Line:
    return ("content-type", name)


def coding(name: str) -> Line:
    return ("content-encoding", name)


MEDIA = [
    row(17, "missing", "unsupported_media_type"),
    row(17, "text", "unsupported_media_type", kind("text/plain")),
    row(17, "form", "unsupported_media_type", kind("application/x-www-form-urlencoded")),
    row(17, "multipart", "unsupported_media_type", kind("multipart/form-data; boundary=a")),
    row(17, "json-of-another-kind", "unsupported_media_type", kind("application/json-patch+json")),
    row(17, "empty", "unsupported_media_type", kind("")),
    row(17, "two", "unsupported_media_type", kind("text/plain"), kind("application/json")),
    row(18, "utf-16", "unsupported_charset", kind("application/json; charset=utf-16")),
    row(18, "latin-1", "unsupported_charset", kind('application/json; charset="iso-8859-1"')),
    *[
        row(19, name, "unsupported_encoding", kind("application/json"), coding(name))
        for name in ("gzip", "br", "deflate", "zstd", "x", "identity, gzip")
    ],
    row(19, "two", "unsupported_encoding", kind("application/json"), coding("gzip"), coding("identity")),
]


@pytest.mark.slow
@pytest.mark.parametrize("door", ["chat", "keys"])
@pytest.mark.parametrize(("code", "lines"), MEDIA)
def test_a_body_of_another_kind(
    server: Server, keys: dict[str, str], managed: str, label: str, door: str, code: str, lines: tuple[Line, ...]
):
    name, target = ("acme", CHAT) if door == "chat" else ("manager", managed)
    body = gzip.compress(chat()) if coding("gzip") in lines else b'{"name": "made"}'
    usual = [("authorization", f"Bearer {keys[name]}"), ("content-length", str(len(body))), ("x-request-id", label)]
    answer = exchange(server.port, head(*usual, *lines, target=target) + body)
    assert_refused(answer, 415, code, label=label)


GOOD = [
    pytest.param([kind('Application/JSON; Charset="UTF-8"')], id="row-18-utf-8"),
    pytest.param([kind("application/json"), coding("Identity")], id="row-19-identity"),
]


@pytest.mark.parametrize("lines", GOOD)
def test_a_body_of_the_right_kind_in_other_words(server: Server, keys: dict[str, str], managed: str, lines: list[Line]):
    assert exchange(server.port, request(keys["acme"], *lines)).status_code == 200
    sent = request(keys["manager"], *lines, target=managed, body=b'{"name": "made"}')
    assert exchange(server.port, sent).status_code == 201
