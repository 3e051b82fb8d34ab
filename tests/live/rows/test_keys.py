"""Rows 1 to 13: who may call. The same answers at both doors, the chat endpoint and the API that Django serves."""

from __future__ import annotations

import re
import zlib

import httpx
import pytest

from infery_site.ids import base62
from tests.live.books import Books
from tests.live.gateway import Server
from tests.live.rows.raw import Line, Post, chat, exchange, head, request
from tests.live.rows.refusals import assert_free, assert_refused, headers_of

DOORS = ["chat", "models"]
both_doors = pytest.mark.parametrize("door", DOORS)


def at(door: str, *lines: Line, query: str = "") -> bytes:
    """A request without a key, but for `lines`, at one of the two doors."""
    if door == "chat":
        return request(None, *lines, target=f"/v1/chat/completions{query}")
    return head(*lines, method="GET", target=f"/v1/models{query}")


def bearer(key: str) -> Line:
    return ("authorization", f"Bearer {key}")


def unknown_key() -> str:
    """Well formed, and nobody's."""
    body = "inf_" + "0" * 32
    return body + base62(zlib.crc32(body.encode()), 6)


@both_doors
@pytest.mark.parametrize("row", [pytest.param((), id="row-01-no-authorization")])
def test_no_key(server: Server, books: Books, label: str, door: str, row: tuple[Line, ...]):
    answer = exchange(server.port, at(door, ("x-request-id", label), *row))
    assert_refused(answer, 401, "missing_api_key", label=label)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert books.count(label) == 0


FORMS = {
    "basic": "Basic {key}",
    "bearer-alone": "Bearer",
    "bearer-and-a-space": "Bearer ",
    "two-spaces": "Bearer  {key}",
    "tab": "Bearer\t{key}",
    "trailing-junk": "Bearer {key} x",
    "trailing-comma": "Bearer {key},",
    "lower-case": "bearer {key}",
    "no-scheme": "{key}",
    "quotes": 'Bearer "{key}"',
    "cut": "Bearer inf_",
    "other-prefix": "Bearer sk-0123456789",
    "not-ascii": "Bearer inf_é{key}",
    "empty": "",
    "10-kb": "Bearer {key}" + "a" * 10_240,
}


@both_doors
@pytest.mark.parametrize("form", [pytest.param(form, id=f"row-02-{name}") for name, form in FORMS.items()])
def test_another_form(server: Server, keys: dict[str, str], books: Books, label: str, door: str, form: str):
    line = ("authorization", form.format(key=keys["acme"]))
    answer = exchange(server.port, at(door, line, ("x-request-id", label)))
    assert_refused(answer, 401, "invalid_api_key", label=label)
    assert books.count(label) == 0


@both_doors
@pytest.mark.parametrize("second", ["same", "other"], ids=["row-03-same", "row-03-other"])
def test_two_keys(server: Server, keys: dict[str, str], door: str, second: str):
    lines = [bearer(keys["acme"]), bearer(keys["acme" if second == "same" else "modest"])]
    assert_refused(exchange(server.port, at(door, *lines)), 401, "invalid_api_key")


@both_doors
@pytest.mark.parametrize("row", [pytest.param("revoked", id="row-04-row-05-row-06-equal-bytes")])
def test_keys_that_nobody_has_are_told_apart_by_nobody(server: Server, keys: dict[str, str], door: str, row: str):
    """A wrong checksum, a key that does not exist and one that was revoked."""
    unknown = unknown_key()
    broken = unknown[:-1] + ("0" if unknown[-1] != "0" else "1")
    answers = [exchange(server.port, at(door, bearer(key))) for key in (broken, unknown, keys[row])]
    for answer in answers:
        assert_refused(answer, 401, "invalid_api_key")
    assert len({answer.content for answer in answers}) == 1
    assert headers_of(answers[0]) == headers_of(answers[1]) == headers_of(answers[2])


KEYS = [
    pytest.param("expired", 401, "expired_api_key", id="row-07-expired"),
    pytest.param("suspended", 403, "workspace_suspended", id="row-09-suspended"),
    pytest.param("elsewhere", 403, "ip_not_allowed", id="row-11-address"),
]


@both_doors
@pytest.mark.parametrize(("name", "status", "code"), KEYS)
def test_a_key_that_may_not(
    server: Server, keys: dict[str, str], books: Books, label: str, door: str, name: str, status: int, code: str
):
    lines = [bearer(keys[name]), ("x-request-id", label), ("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1")]
    assert_refused(exchange(server.port, at(door, *lines)), status, code, label=label)
    assert books.count(label) == 0


@both_doors
@pytest.mark.parametrize("name", [pytest.param(name, id=f"row-08-{name}") for name in ("api_key", "key", "access_token")])
def test_a_key_in_the_query(server: Server, keys: dict[str, str], door: str, name: str):
    answer = exchange(server.port, at(door, query=f"?{name}={keys['acme']}"))
    assert_refused(answer, 401, "missing_api_key")
    assert keys["acme"] not in answer.text
    assert keys["acme"] not in server.log_text()


@pytest.mark.parametrize("name", [pytest.param("unscoped", id="row-10-scope")])
def test_a_key_without_the_scope(http: httpx.Client, post: Post, keys: dict[str, str], name: str):
    message = assert_refused(post(authorization=f"Bearer {keys[name]}"), 403, "insufficient_scope")
    assert "'chat'" in message
    listed = http.get("/models", headers={"authorization": f"Bearer {keys[name]}"})
    assert listed.status_code == 200, "the list of models needs no scope"


@pytest.mark.parametrize("stream", [False, True], ids=["row-12-whole", "row-12-stream"])
def test_a_key_that_has_spent_its_budget(post: Post, keys: dict[str, str], books: Books, label: str, stream):
    answer = post(chat(stream=stream), authorization=f"Bearer {keys['capped']}")
    message = assert_refused(answer, 402, "key_budget_exceeded", label=label)
    assert "0.000001 credits" in message
    assert assert_free(books, label, 402, "key_budget_exceeded").holds == ()


@both_doors
@pytest.mark.parametrize("name", [pytest.param("session", id="row-13-session-cookie")])
def test_a_session_is_no_key(server: Server, keys: dict[str, str], door: str, name: str):
    cookie = ("cookie", f"sessionid={keys[name]}")
    ends = []
    for cookies in ({}, {"sessionid": keys[name]}):
        with httpx.Client(trust_env=False, follow_redirects=True, cookies=cookies) as browser:
            ends.append(browser.get(f"http://127.0.0.1:{server.port}/admin/").url.path)
    stranger, staff = ends
    assert stranger == "/accounts/login/"
    assert re.match("/accounts/(?!login/)", staff), "the session itself is good"
    answer = exchange(server.port, at(door, cookie))
    assert_refused(answer, 401, "missing_api_key")


@pytest.mark.parametrize("name", [pytest.param(None, id="nothing-is-told-before-the-key")])
def test_an_anonymous_caller_learns_nothing(server: Server, name: str | None):
    """Whatever else is wrong behind the key's place in the order of checks."""
    lines = [("content-type", "text/plain"), ("content-encoding", "gzip"), ("idempotency-key", "")]
    assert_refused(exchange(server.port, request(name, *lines, body=b"{")), 401, "missing_api_key")
