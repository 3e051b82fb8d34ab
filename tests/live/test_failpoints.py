"""A server that is killed at the worst moments, by name: between a commit and whoever waits for it, between money and answer.

Each server first shows what became of what the one before it left behind, then dies at the next point.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest
from openai import OpenAI

from infery_site.failpoints import POINTS, VARIABLE
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import ask, assert_booked
from tests.live.gateway import Installation, Server
from tests.live.rows.sabotage import run_sql
from tests.live.sweeps import wait_until_swept
from tests.programs import ROOT

CHARGE_MICROCREDITS = 7 * 250 + 3 * 1000  # of the script below at the price of `main`
SCRIPT = Script(text="One two three.", usage={"prompt_tokens": 7, "completion_tokens": 3}, delay_between_s=0.05)
TEXT = b"A text of some length.\n" * 100


class Case(msgspec.Struct, frozen=True):
    """A point, and what is left when a request has died there: of its holds, of its money, and at the provider."""

    point: str
    expired: int
    settled: int
    calls: int
    stream: bool = False

    @property
    def charged_microcredits(self) -> int:
        return CHARGE_MICROCREDITS * self.settled


KEEPING = Case("claim.keeping", 0, 1, 1)
KEPT = Case("claim.kept", 0, 1, 1, stream=True)
# A repeat of an idempotency key comes to the server after; so the points that a repeat passes stand further below.
CASES = [
    KEEPING,
    KEPT,
    Case("relay.sent:2", 1, 0, 1, stream=True),
    Case("attempt.called", 1, 0, 0),
    Case("attempt.answered", 1, 0, 1, stream=True),
    Case("ledger.asked", 0, 0, 0, stream=True),
    Case("ledger.written", 1, 0, 0),
    Case("ledger.asked:2", 1, 0, 1),
    Case("ledger.written:2", 0, 1, 1, stream=True),
]
SHORT = [case for case in CASES if case.point in {"claim.kept", "attempt.answered", "ledger.written:2"}]
FILE_POINTS = ["files.pending", "files.stored", "files.ended"]
ONCE_POINTS = ["create.keeping", "create.kept", "files.stored", "files.kept"]


@pytest.fixture(scope="module")
def failing(provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("failing"), provider_process, settings="tests.live.failing")
    yield made
    made.run("manage.py", "reconcile_ledger")
    assert made.books.open_holds() == 0
    made.books.close()


def client_of(failing: Installation, server: Server) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key=failing.keys["acme"], max_retries=0, timeout=20)


def counts(failing: Installation) -> tuple[int, int, int]:
    books = failing.books
    return books.count_holds("expired"), books.count_holds("settled"), books.charged_microcredits()


@pytest.mark.slow
@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(SHORT, id="short", marks=pytest.mark.timeout(400)),
        pytest.param(CASES, id="long", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
def test_a_request_that_dies(failing: Installation, provider: FakeProvider, cases: list[Case]):
    died: Case | None = None
    before, key, killed_s = counts(failing), "", 0.0
    for case in [*cases, None]:
        with failing.server(INFERY_FAILPOINT=case.point if case else "") as server, client_of(failing, server) as client:
            wait_until_swept(failing.books, killed_s=killed_s, served_s=time.monotonic())
            if died is not None:
                assert_nothing_else_is_left(failing, provider, died, before)
                assert_repeat(failing, client, died, key)
            provider.reset()
            provider.script("main", SCRIPT)
            if case is not None:
                died, before, key = case, counts(failing), uuid.uuid4().hex
                with pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError, httpx.ReadError)):
                    ask(client, model="main", stream=case.stream, extra_headers={"idempotency-key": key})
                server.wait_until_killed()
                killed_s = time.monotonic()
    failing.run("manage.py", "reconcile_ledger")


def assert_nothing_else_is_left(
    failing: Installation, provider: FakeProvider, died: Case, before: tuple[int, int, int]
) -> None:
    expired, settled, charged_microcredits = before
    after = (expired + died.expired, settled + died.settled, charged_microcredits + died.charged_microcredits)
    assert (died.point, counts(failing)) == (died.point, after)
    assert (died.point, len(provider.requests())) == (died.point, died.calls)


def assert_repeat(failing: Installation, client: OpenAI, died: Case, key: str) -> None:
    """What was paid is never paid again: a repeat gets the answer, or is told that it is lost."""
    if died not in {KEEPING, KEPT}:
        return
    before = counts(failing)
    repeat: dict[str, Any] = {"model": "main", "stream": died.stream, "extra_headers": {"idempotency-key": key}}
    if died == KEPT:
        answer = ask(client, **repeat)
        assert (answer.text, answer.headers["idempotent-replayed"]) == ("One two three.", "true")
        assert_booked(failing.books, answer)
    else:
        assert refusal_after_the_lease(client, repeat) == "idempotency_result_lost"
    assert counts(failing) == before


def refusal_after_the_lease(client: OpenAI, repeat: dict[str, Any]) -> str | None:
    """The claim of the killed process keeps others waiting for a while."""
    deadline = time.monotonic() + 10
    while True:
        with pytest.raises(openai.ConflictError) as caught:
            ask(client, **repeat)
        if caught.value.code != "idempotency_in_progress" or time.monotonic() > deadline:
            return caught.value.code
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "points",
    [
        pytest.param(["files.stored"], id="short", marks=pytest.mark.timeout(300)),
        pytest.param(FILE_POINTS, id="long", marks=[pytest.mark.long, pytest.mark.timeout(300)]),
    ],
)
def test_a_file_that_dies(failing: Installation, points: list[str]):
    """Nobody finds half a file, its room comes back, and no bytes stay without a row that answers for them."""
    for point in points:
        with failing.server(INFERY_FAILPOINT=point) as server, client_of(failing, server) as client:
            with pytest.raises(openai.APIConnectionError):
                upload_and_delete(client)
            server.wait_until_killed()
        with failing.server() as server, client_of(failing, server) as client:
            assert list(client.files.list()) == []
            kept = client.files.create(file=("b.txt", TEXT), purpose="user_data")
            forget_dead_uploads(failing)
            assert [path.read_bytes() for path in stored(failing)] == [TEXT], point
            answer = client.files.with_raw_response.delete(kept.id)
            assert answer.headers["x-storage-used-bytes"] == "0", point
        assert stored(failing) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "points",
    [
        pytest.param(["create.kept"], id="short", marks=pytest.mark.timeout(300)),
        pytest.param(ONCE_POINTS, id="long", marks=[pytest.mark.long, pytest.mark.timeout(300)]),
    ],
)
def test_what_is_made_once_is_made_once_whenever_it_dies(failing: Installation, points: list[str]):
    """A repeat of a POST that creates gets the first answer, or makes the one thing that there is then."""
    for point in points:
        make = make_key if point.startswith("create") else make_file
        key, name = uuid.uuid4().hex, f"once-{uuid.uuid4().hex}"
        with failing.server(INFERY_FAILPOINT=point) as server, httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as http:
            with pytest.raises(httpx.TransportError):
                make(failing, http, key, name)
            server.wait_until_killed()
        with failing.server() as server, httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as http:
            answer = answer_after_the_lease(lambda: make(failing, http, key, name))  # noqa: B023 - called at once
            assert answer.is_success, (point, answer.text)
            assert ("idempotent-replayed" in answer.headers) == point.endswith(".kept"), point
            assert names_of(failing, http, make).count(name) == 1, point


def make_key(failing: Installation, http: httpx.Client, key: str, name: str) -> httpx.Response:
    return http.post(keys_of_acme(failing, http), json={"name": name}, headers=authorized(failing, "managing", key))


def make_file(failing: Installation, http: httpx.Client, key: str, name: str) -> httpx.Response:
    headers = authorized(failing, "acme", key)
    return http.post("/v1/files", data={"purpose": "user_data"}, files={"file": (f"{name}.txt", TEXT)}, headers=headers)


def names_of(failing: Installation, http: httpx.Client, make: object) -> list[str]:
    if make is make_key:
        rows = http.get(keys_of_acme(failing, http), headers=authorized(failing, "managing")).json()["data"]
        return [row["name"] for row in rows]
    rows = http.get("/v1/files", headers=authorized(failing, "acme")).json()["data"]
    return [row["filename"].removesuffix(".txt") for row in rows]


def keys_of_acme(failing: Installation, http: httpx.Client) -> str:
    workspace = http.get("/v1/key", headers=authorized(failing, "acme")).json()["workspace_id"]
    return f"/api/workspaces/{workspace}/keys"


def authorized(failing: Installation, who: str, key: str = "") -> dict[str, str]:
    headers = {"authorization": f"Bearer {failing.keys[who]}"}
    return headers | {"idempotency-key": key} if key else headers


def answer_after_the_lease(ask: Callable[[], httpx.Response]) -> httpx.Response:
    deadline = time.monotonic() + 10
    while (answer := ask()).status_code == 409 and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def upload_and_delete(client: OpenAI) -> None:
    file = client.files.create(file=("a.txt", TEXT), purpose="user_data")
    client.files.delete(file.id)


def forget_dead_uploads(failing: Installation) -> None:
    """As if the time in which the store may still be working on them were over."""
    run_sql(failing, "UPDATE files_storedfile SET created_at = '2026-01-01 00:00:00+00:00' WHERE state = 'pending'")
    failing.run("manage.py", "purge_files")


def stored(failing: Installation) -> list[Path]:
    return [path for path in (failing.folder / "files").rglob("*") if path.is_file()]


def test_every_point_is_died_at():
    named = {case.point.partition(":")[0] for case in CASES}.union(FILE_POINTS, ONCE_POINTS)
    assert named == set(POINTS)


@pytest.mark.slow
def test_a_gateway_does_not_start_with_a_point_unless_it_is_a_test_s(failing: Installation):
    """Whatever it was to do: a variable that is left behind is noticed at once, and not one day in the middle of a request."""
    command = [sys.executable, "manage.py", "check"]
    for settings, status in (("tests.live.hasty", 1), ("tests.live.failing", 0)):
        environment = failing.environment | {"DJANGO_SETTINGS_MODULE": settings, VARIABLE: "ledger.written"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert ("FailpointRefused" in done.stderr) == bool(status)
