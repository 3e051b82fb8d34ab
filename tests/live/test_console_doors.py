"""The console's own doors into the pipeline: session, token, origin and role open them, and nothing else does."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.gateway import Installation, Server

CHAT = "/console/playground/chat"
UPLOAD = "/console/files/upload"
ASKED = {"model": "sandbox-echo", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc000000301010018dd8db00000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def visitors(installation: Installation) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(installation.run("-m", "tests.live.visitors"))
    return made


@pytest.fixture
def as_visitor(server: Server, visitors: dict[str, Any], provider: FakeProvider) -> Iterator[Callable[..., httpx.Client]]:
    """A browser of this person, with the token that a page of his holds."""
    opened: list[httpx.Client] = []

    def open_browser(name: str) -> httpx.Client:
        site = server.base_url.removesuffix("/v1")
        client = httpx.Client(base_url=site, trust_env=False, timeout=20, cookies={"sessionid": visitors["sessions"][name]})
        opened.append(client)
        page = client.get("/accounts/logout/").text
        token = page.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
        client.headers.update({"origin": site, "x-csrftoken": token, "x-workspace": visitors["workspace"]})
        return client

    yield open_browser
    for client in opened:
        client.close()


def frames(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize("role", ["owner", "admin", "developer"])
def test_the_playground_streams_and_is_booked_on_the_visitors_own_key(as_visitor, installation: Installation, role):
    client = as_visitor(role)
    told = frames(client.post(CHAT, json=ASKED))
    assert "".join(frame["choices"][0]["delta"].get("content") or "" for frame in told if frame["choices"]) == "Hello"
    booked = installation.books.of(told[0]["id"])
    assert booked.end_state == "done"
    assert told[-1]["credits_used"] > 0
    assert round(told[-1]["credits_used"] * 1_000_000) == booked.entry_microcredits
    client.post(CHAT, json=ASKED)
    owners = installation.books.rows(
        "SELECT u.username FROM billing_apikey k JOIN billing_membership m ON m.id = k.owner_id "
        "JOIN auth_user u ON u.id = m.user_id WHERE k.is_playground"
    )
    assert owners.count((f"live-{role}",)) == 1


@pytest.mark.parametrize("path", [CHAT, UPLOAD])
@pytest.mark.parametrize(
    ("who", "status", "code"),
    [("billing", 403, "permission_denied"), ("viewer", 403, "permission_denied"), ("stranger", 404, "unknown_url")],
)
def test_a_role_that_may_not_and_a_stranger_are_refused(as_visitor, path, who, status, code):
    response = as_visitor(who).post(path, json=ASKED)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("path", [CHAT, UPLOAD])
@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"x-csrftoken": "a" * 64}, 403, "csrf_failed"),
        ({"x-csrftoken": None}, 403, "csrf_failed"),
        ({"origin": "https://evil.example"}, 403, "csrf_failed"),
        ({"origin": "null"}, 403, "csrf_failed"),
        ({"origin": None}, 403, "csrf_failed"),
        ({"cookie": None}, 401, "missing_api_key"),
        ({"x-workspace": None}, 404, "unknown_url"),
        ({"x-workspace": "ws_0000000000000000000000"}, 404, "unknown_url"),
    ],
)
def test_without_one_of_its_proofs_a_door_stays_shut(as_visitor, path, change, status, code):
    client = as_visitor("owner")
    for name, value in change.items():
        if name == "cookie":
            client.cookies.clear()
        elif value is None:
            del client.headers[name]
        else:
            client.headers[name] = value
    response = client.post(path, json=ASKED)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_a_token_in_the_body_opens_nothing(as_visitor):
    client = as_visitor("owner")
    token = client.headers.pop("x-csrftoken")
    response = client.post(CHAT, data={"csrfmiddlewaretoken": token})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "csrf_failed")


def test_an_api_key_opens_no_door_of_the_console_and_a_session_none_of_the_api(as_visitor, installation: Installation):
    client = as_visitor("owner")
    assert client.post("/v1/chat/completions", json=ASKED).json()["error"]["code"] == "missing_api_key"
    client.cookies.clear()
    client.headers["authorization"] = f"Bearer {installation.keys['acme']}"
    assert client.post(CHAT, json=ASKED).status_code == 401


def test_a_visitor_who_stops_pays_for_what_he_got(as_visitor, provider: FakeProvider, installation: Installation):
    provider.script("slow", Script(text="abcdefg " * 60, delay_between_s=0.05))
    client = as_visitor("owner")
    label = f"stopped-{uuid.uuid4().hex}"
    with client.stream("POST", CHAT, json={**ASKED, "model": "slow"}, headers={"x-request-id": label}) as response:
        words = (line for line in response.iter_lines() if "abcdefg" in line)
        assert [next(words) for _ in range(3)]
    booked = installation.books.of_request(label, is_over=lambda booked: "open" not in booked.states)
    assert booked.end_state == "client_gone"
    assert 0 < booked.entry_microcredits < booked.held_microcredits


def test_an_upload_from_a_page_is_the_workspaces_file(as_visitor, installation: Installation):
    client = as_visitor("developer")
    response = client.post(UPLOAD, data={"purpose": "vision"}, files={"file": ("dot.png", PNG, "image/png")})
    assert response.status_code == 200, response.text
    made = response.json()
    assert (made["filename"], made["bytes"]) == ("dot.png", len(PNG))
    with httpx.Client(base_url=str(client.base_url), trust_env=False) as program:
        found = program.get(f"/v1/files/{made['id']}", headers={"authorization": f"Bearer {installation.keys['acme']}"})
    assert found.json()["id"] == made["id"]
    wrong = client.post(UPLOAD, data={"purpose": "vision"}, files={"file": ("dot.png", b"%PDF-1.7 no", "image/png")})
    assert wrong.json()["error"]["code"] == "mime_mismatch"


def test_a_run_with_a_file_of_a_page(as_visitor):
    client = as_visitor("owner")
    made = client.post(UPLOAD, data={"purpose": "vision"}, files={"file": ("dot.png", PNG, "image/png")}).json()
    parts = [{"type": "text", "text": "What is it?"}, {"type": "file", "file": {"file_id": made["id"]}}]
    told = frames(client.post(CHAT, json={**ASKED, "messages": [{"role": "user", "content": parts}]}))
    assert told[-1]["usage"]["prompt_tokens"] > 0


def test_pages_may_run_nothing_inline_and_ask_nobody_else(as_visitor, visitors):
    client = as_visitor("owner")
    for page in (
        "overview",
        "keys",
        "credits",
        "usage",
        "log",
        "models",
        "docs",
        "files",
        "members",
        "settings",
        "playground",
        "limits",
        "audit",
        "alerts",
        "webhooks",
        "chains",
    ):
        response = client.get(f"/console/{visitors['workspace']}/{page}")
        assert response.status_code == 200, page
        assert "script-src 'self'; style-src 'self'" in response.headers["content-security-policy"]
        assert not re.search(r"\sstyle=|\son[a-z]+=|<script(?![^>]*(?:src=|type=\"application/json\"))", response.text), page
        assert not re.search(r"(?:src|href)=\"https?://", response.text), page
