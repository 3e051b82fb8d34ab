"""Row 34: a server that was told to stop while a stream runs."""

from __future__ import annotations

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.gateway import Installation, Server
from tests.live.rows.raw import RawConnection, request
from tests.live.rows.refusals import assert_refused
from tests.live.wire import WireClient

WORDS = 15


@pytest.mark.slow
@pytest.mark.parametrize("words", [pytest.param(WORDS, id="row-34-draining")])
def test_a_server_that_stops(
    installation: Installation, provider: FakeProvider, keys: dict[str, str], books: Books, label: str, words: int
):
    """On a connection that was open before, a new request is sent away; the stream comes to its end, then all is over."""
    provider.script("main", Script(text="Hi."), Script(text="word " * words, delay_between_s=0.1))
    body = {"model": "main", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with installation.server() as server, RawConnection(server.port) as kept, RawConnection(server.port) as idle:
        assert kept.ask(request(keys["acme"])).status_code == 200
        assert idle.ask(request(keys["acme"], body=b"")).status_code == 400
        with WireClient(server.port, keys["acme"], body, x_request_id=label) as running:
            assert running.read_head()[0] == 200
            assert running.read_contents(1) == ["word "]
            server.terminate()
            wait_until_unready(server)
            answer = kept.ask(request(keys["acme"], ("x-request-id", label)))
            assert_refused(answer, 503, "server_draining", label=label)
            assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
            assert kept.is_closed()
            assert running.read_contents(words - 1) == ["word "] * (words - 1)
            last = b""
            while event := running.read_event():
                last = event
        assert last == b"data: [DONE]"
        assert idle.is_closed()
        assert server.stop() == 0
    booked = books.of_request(label)
    assert (booked.end_state, booked.states) == ("done", ["settled"])


def wait_until_unready(server: Server) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as balancer:
        while balancer.get("/readyz").status_code == 200:
            pass
