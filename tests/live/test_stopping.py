"""SIGTERM under load: what is running ends well and is booked, nothing new is let in, and the process leaves with 0."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.gateway import Installation
from tests.live.wire import WireClient

WORDS = 12


def test_a_stream_that_runs_ends_well(
    installation: Installation, provider: FakeProvider, keys: dict[str, str], books: Books, label: str
):
    provider.script("main", Script(text="word " * WORDS, delay_between_s=0.1))
    body: dict[str, Any] = {"model": "main", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with installation.server() as server:
        with WireClient(server.port, keys["acme"], body, x_request_id=label) as client:
            client.read_head()
            assert client.read_contents(1) == ["word "]
            server.terminate()
            time.sleep(0.4)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", server.port), timeout=5)
            assert client.read_contents(WORDS - 1) == ["word "] * (WORDS - 1)
            events = []
            while event := client.read_event():
                events.append(event)
        assert events[-1] == b"data: [DONE]"
        assert server.stop() == 0
    booked = books.of_request(label)
    assert (booked.end_state, booked.usage_source, booked.states) == ("done", "reported", ["settled"])
