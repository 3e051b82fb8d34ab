"""Every authenticated request leaves one record, however early it ends; those that a rate limit refused are only counted."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.live.books import Booked, Books
from tests.live.gateway import Installation, Server
from tests.live.rows.sabotage import refused_inserts
from tests.live.wire import WireClient

BODY: dict[str, Any] = {"model": "main", "messages": [{"role": "user", "content": "Hello"}]}
JSON = {"content-type": "application/json"}


def assert_left(booked: Booked, status: int, end_state: str, code: str = "") -> None:
    assert (booked.status, booked.end_state, booked.error_code) == (status, end_state, code)
    assert (booked.charged_microcredits, booked.entries, booked.holds) == (0, (), ())


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-type": "text/plain"}, "unsupported_media_type"),
        ({"content-type": "application/json; charset=utf-16"}, "unsupported_charset"),
        (JSON | {"content-encoding": "gzip"}, "unsupported_encoding"),
    ],
    ids=["row-17", "row-18", "row-19"],
)
def test_a_body_of_another_type(http: httpx.Client, books: Books, label: str, headers: dict[str, str], code: str):
    answer = http.post("/chat/completions", content=b"{}", headers=headers | {"x-request-id": label})
    assert answer.status_code == 415
    assert_left(books.of_request(label), 415, "refused", code)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_dry_run_and_a_replay(http: httpx.Client, books: Books, label: str, stream):
    body = BODY | {"stream": stream}
    http.post("/chat/completions?dry_run=true", json=body, headers={"x-request-id": f"{label}-dry"})
    for name in ("first", "again"):
        http.post("/chat/completions", json=body, headers={"x-request-id": f"{label}-{name}", "idempotency-key": label})
    assert_left(books.of_request(f"{label}-dry"), 200, "dry_run")
    assert_left(books.of_request(f"{label}-again"), 200, "replayed")
    assert books.of_request(f"{label}-first").end_state == "done"


def test_who_leaves_before_he_has_asked(server: Server, keys: dict[str, str], books: Books, label: str):
    """Half a body, and gone."""
    with HalfABody(server.port, keys["acme"], BODY, x_request_id=label) as client:
        client.leave(by_reset=True)
    assert_left(books.of_request(label), 499, "client_gone", "client_gone")


class HalfABody(WireClient):
    """Says how long its body is, and sends half of it."""

    def __enter__(self) -> HalfABody:
        self._socket.sendall(self._head + self._content[: len(self._content) // 2])
        return self


@pytest.mark.slow
def test_a_fault_of_ours_before_anything_is_held(
    installation: Installation, provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory, label: str
):
    """In a gateway of its own, for it is logged."""
    made = Installation(tmp_path_factory.mktemp("faulty"), provider)
    with made.server() as server, refused_inserts(made, "billing_idempotentreply"):
        headers = {"authorization": f"Bearer {made.keys['acme']}", "x-request-id": label, "idempotency-key": str(uuid.uuid4())}
        url = f"{server.base_url}/chat/completions"
        answer = httpx.post(url, content=json.dumps(BODY), headers=headers | JSON, trust_env=False, timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert_left(made.books.of_request(label), 500, "failed", "internal_error")
    made.books.close()
    assert provider.requests() == []


@pytest.mark.slow
def test_what_a_rate_limit_refused_is_only_counted(http: httpx.Client, keys: dict[str, str], books: Books, label: str):
    headers = {"authorization": f"Bearer {keys['limited']}", "x-request-id": label}
    answers = [http.post("/chat/completions", json=BODY, headers=headers) for _ in range(12)]
    served = [answer.status_code for answer in answers].count(200)
    assert {answer.status_code for answer in answers} == {200, 429}
    http.post("/chat/completions?dry_run=true", json=BODY, headers={"x-request-id": f"{label}-after"})
    books.of_request(f"{label}-after")
    assert books.count(label) == served
