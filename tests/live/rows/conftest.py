"""The rows run against the server of the live suite, which must answer a good request after those of each file."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.live.books import Books
from tests.live.gateway import Installation, Server
from tests.live.rows.raw import Post, chat, exchange, request


@pytest.fixture(scope="session")
def row_keys(installation: Installation) -> dict[str, str]:
    """Keys with one thing wrong each; see `install`. Like all keys of the installation they must not stand in its logs."""
    installation.keys.update(json.loads(installation.run("-m", "tests.live.rows.install")))
    return installation.keys


@pytest.fixture
def keys(row_keys: dict[str, str]) -> dict[str, str]:
    return row_keys


@pytest.fixture(scope="module", autouse=True)
def _answers_after_all_rows(server: Server, provider_process: FakeProvider, installation: Installation) -> Iterator[None]:
    yield
    provider_process.reset()
    answer = exchange(server.port, request(installation.keys["acme"]))
    assert answer.status_code == 200
    assert installation.books.of(answer.json()["id"]).entry_microcredits > 0


@pytest.fixture(autouse=True)
def _leaves_no_hold(books: Books) -> Iterator[None]:
    yield
    assert books.open_holds() == 0


@pytest.fixture(autouse=True)
def _provider_is_willing(provider: FakeProvider) -> None:
    """Whatever the test before has scripted."""


@pytest.fixture
def post(http: httpx.Client, label: str) -> Post:
    """Posts a body to the chat endpoint under the test's label."""

    def send(content: bytes | None = None, /, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"content-type": "application/json", "x-request-id": label, **named}
        return http.post("/chat/completions", content=chat() if content is None else content, headers=sent)

    return send
