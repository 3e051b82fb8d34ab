"""SIGTERM under load: what is running ends well and is booked, what is new is sent away, and the process leaves with 0."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from openai import OpenAI

from chat.management.commands.serve import GRACEFUL_SHUTDOWN_S
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import ask, assert_booked
from tests.live.books import Books
from tests.live.gateway import Installation, Server

TEXT = "word " * 20


@pytest.mark.slow
def test_what_runs_ends_well(installation: Installation, provider: FakeProvider, keys: dict[str, str], books: Books):
    provider.script("main", Script(text=TEXT, delay_first_s=1, delay_between_s=0.1))
    with (
        installation.server() as server,
        OpenAI(base_url=server.base_url, api_key=keys["acme"], max_retries=0) as client,
        ThreadPoolExecutor() as threads,
    ):
        running = [threads.submit(ask, client, stream=stream) for stream in (False, True, True)]
        provider.wait_for(lambda requests: len(requests) == len(running))
        server.terminate()
        wait_until_unready(server)
        with pytest.raises(openai.InternalServerError) as refused:
            ask(client)
        answers = [one.result() for one in running]
        assert server.stop() == 0
    assert (refused.value.status_code, refused.value.code) == (503, "server_draining")
    assert refused.value.response.headers["retry-after"] == "1"
    for answer in answers:
        assert answer.text == TEXT
        assert assert_booked(books, answer).end_state == "done"


@pytest.mark.slow
@pytest.mark.parametrize(("act", "workers"), [("terminate", 1), ("interrupt", 1), ("interrupt", 2)])
def test_a_slow_download_comes_to_its_end(installation: Installation, keys: dict[str, str], act: str, workers: int):
    """Whoever answers it: also what goes through Django is an open request. What is new is sent elsewhere."""
    data = b"0123456789abcde\n" * 2**20
    headers = {"authorization": f"Bearer {keys['acme']}"}
    with (
        installation.server(workers=workers) as server,
        httpx.Client(base_url=server.base_url, headers=headers, timeout=30, trust_env=False) as http,
    ):
        file = http.post("/files", data={"purpose": "user_data"}, files={"file": ("a.txt", data)}).json()
        with http.stream("GET", f"/files/{file['id']}/content") as answer:
            pieces = answer.iter_bytes()
            received = len(next(pieces))
            getattr(server, act)()
            if workers == 1:
                wait_until_unready(server)
                refused = http.get("/models")
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_draining")
                assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
            time.sleep(GRACEFUL_SHUTDOWN_S + 1)
            received += sum(map(len, pieces))
        assert server.stop() == 0
    assert received == len(data)


def wait_until_unready(server: Server) -> None:
    """The answer that load balancers ask for, until it sends them elsewhere."""
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as balancer:
        while (answer := balancer.get("/readyz")).status_code == 200:
            pass
    assert answer.json()["cause"] == "draining"
