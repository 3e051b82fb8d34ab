"""A client that stops reading: it is cut off, its provider is left, and what it was sent is paid."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.catalog import PRICES
from tests.live.conftest import faults_in
from tests.live.gateway import Installation, Server

SMALL_BUFFER_BYTES = 16_384
WORDS = "abcdefg " * 2_000
CHUNK = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
EVENTS = 700
"""More than fits into the buffers on the way, and less than a stream of this length may have."""


@pytest.fixture
def impatient(hasty: Installation) -> Iterator[Server]:
    with hasty.server() as server:
        yield server


def unread(server: Server, key: str, label: str) -> socket.socket:
    """A connection whose client asks for a stream and then reads nothing."""
    body = json.dumps({"model": "slow", "messages": [{"role": "user", "content": "Go on."}], "stream": True}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\nx-request-id: {label}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(head.encode() + body)
    return connection


def test_a_client_that_does_not_read_is_cut_off_and_settled(
    impatient: Server, hasty: Installation, provider: FakeProvider, label: str
):
    """Else it could keep a stream, its hold and its provider's connection for as long as it likes."""
    chunk = json.dumps(CHUNK | {"choices": [{"index": 0, "delta": {"content": WORDS}}]}).encode()
    provider.script("slow", Script(events=(chunk,) * EVENTS))
    with unread(impatient, hasty.keys["acme"], label):
        provider.wait_for(lambda requests: bool(requests and requests[0].closed_s), timeout_s=20)
        booked = hasty.books.of_request(label, is_over=lambda booked: "open" not in booked.states)
    assert (booked.end_state, booked.states) == ("client_gone", ["settled"])
    input_microcredits, output_microcredits = PRICES["slow"]
    cost = booked.prompt_tokens * input_microcredits + booked.completion_tokens * output_microcredits
    assert 0 < booked.charged_microcredits == booked.entry_microcredits == cost <= booked.held_microcredits
    assert faults_in(impatient.log_text()) == []
