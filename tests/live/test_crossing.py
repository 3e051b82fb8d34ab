"""Pages of other origins call the API: those that are named, by a key and never by what the browser keeps."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.gateway import Installation, Server

APP = "https://app.example"
FOREIGN = "https://other.example"
ASKED = {"model": "first", "messages": [{"role": "user", "content": "Hello"}]}
ALLOWING = "access-control-allow-origin"


@pytest.fixture(scope="module")
def open_server(installation: Installation) -> Iterator[Server]:
    with installation.server(CORS_ALLOWED_ORIGINS=f"{APP}, http://localhost:3000") as running:
        yield running


@pytest.fixture
def page(open_server: Server, keys: dict[str, str]) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {keys['acme']}", "origin": APP}
    base = f"http://127.0.0.1:{open_server.port}"
    with httpx.Client(base_url=base, headers=headers, timeout=20, trust_env=False) as client:
        yield client


def asks_first(page: httpx.Client, path: str, origin: str = APP, method: str = "POST") -> httpx.Response:
    """What a browser sends before a request that no form could make."""
    asked = {
        "access-control-request-method": method,
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    del page.headers["authorization"]
    return page.options(path, headers={"origin": origin, **asked})


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files", "/v1/models"])
def test_a_browser_is_told_that_it_may(page: httpx.Client, path: str):
    answer = asks_first(page, path)
    assert answer.status_code == 200
    assert answer.headers[ALLOWING] == APP
    assert {"GET", "POST", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", [FOREIGN, "null", f"{APP}.evil.example", "http://app.example"])
def test_a_browser_of_another_page_is_not(page: httpx.Client, origin: str):
    assert ALLOWING not in asks_first(page, "/v1/chat/completions", origin).headers
    assert ALLOWING not in page.get("/v1/models", headers={"origin": origin}).headers


@pytest.mark.parametrize("script", [Script(text="Yes."), Script(status=500)], ids=["served", "by-the-chain"])
def test_answers_are_readable_with_their_headers(page: httpx.Client, provider: FakeProvider, script: Script):
    provider.script("first", script)
    answer = page.post("/v1/chat/completions", json=ASKED)
    assert answer.status_code == 200
    assert answer.json()["credits_used"] > 0
    assert answer.headers[ALLOWING] == APP
    assert answer.headers["vary"] == "Origin"
    assert answer.headers["access-control-expose-headers"] == "*"
    assert answer.headers["x-model-used"]


def test_a_stream_and_what_is_refused_are_readable_too(page: httpx.Client, provider: FakeProvider):
    stream = page.post("/v1/chat/completions", json={**ASKED, "stream": True})
    assert (stream.status_code, stream.headers[ALLOWING]) == (200, APP)
    assert stream.text.endswith("data: [DONE]\n\n")
    for answer in (
        page.post("/v1/chat/completions", json={**ASKED, "model": "nobody"}),
        page.get("/v1/models", headers={"authorization": "Bearer inf_wrong"}),
        page.get("/v1/nothing"),
        page.post("/v1/files", files={"file": ("a.txt", b"x")}, data={"purpose": "nothing"}),
    ):
        assert answer.status_code >= 400
        assert answer.headers[ALLOWING] == APP


@pytest.mark.parametrize("path", ["/api/workspaces", "/console/", "/admin/", "/accounts/login/", "/metrics", "/v1"])
def test_nothing_else_is(page: httpx.Client, path: str):
    assert ALLOWING not in page.get(path).headers
    assert ALLOWING not in asks_first(page, path, method="GET").headers


def test_nobody_may_where_nobody_is_named(server: Server, keys: dict[str, str], provider: FakeProvider):
    headers = {"authorization": f"Bearer {keys['acme']}", "origin": APP}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=20, trust_env=False) as client:
        for answer in (client.post("/chat/completions", json=ASKED), client.get("/models")):
            assert answer.status_code == 200
            assert ALLOWING not in answer.headers
