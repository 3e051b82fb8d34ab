"""Holds of living processes, of many that died at once, and of those where none lives any more; leases of seconds."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.gateway import Installation
from tests.live.hasty import HOLD_LEASE_S
from tests.live.sweeps import wait_until_swept
from tests.live.wire import WireClient

STREAMS = 50
WORD = "abcdefg "
ASKED: dict[str, Any] = {"model": "slow", "messages": [{"role": "user", "content": "Tell me everything."}], "stream": True}


@pytest.mark.slow
def test_a_stream_that_outlives_its_lease_is_paid(hasty: Installation, provider: FakeProvider, label: str):
    words = 30
    provider.script("slow", Script(text=WORD * words, delay_between_s=2 * HOLD_LEASE_S / words))
    with hasty.server() as server, WireClient(server.port, hasty.keys["acme"], ASKED, x_request_id=label) as client:
        started_s = time.monotonic()
        client.read_head()
        assert client.read_contents(words) == [WORD] * words
        assert time.monotonic() - started_s > 1.5 * HOLD_LEASE_S
        booked = hasty.books.of_request(label)
    assert (booked.end_state, set(booked.states)) == ("done", {"settled"})
    assert booked.charged_microcredits == booked.entry_microcredits > 0


@pytest.mark.slow
def test_many_streams_of_a_killed_process_are_given_back_in_time(hasty: Installation, provider: FakeProvider):
    """By a process beside it, and not later because they are many."""
    provider.script("slow", Script(text=WORD * 2000, delay_between_s=0.05))  # longer than they take to begin
    with hasty.server() as doomed, hasty.server(), contextlib.ExitStack() as clients:
        for _ in range(STREAMS):
            clients.enter_context(WireClient(doomed.port, hasty.keys["acme"], ASKED)).read_head()
        assert hasty.books.count_holds("open") >= STREAMS
        doomed.kill()
        wait_until_swept(hasty.books, killed_s=time.monotonic())
    hasty.run("manage.py", "reconcile_ledger")


@pytest.mark.slow
def test_the_command_gives_it_back_too(hasty: Installation, provider: FakeProvider):
    """Where no process serves any more."""
    provider.script("slow", Script(text=WORD * 60, delay_between_s=0.05))
    with hasty.server() as server, WireClient(server.port, hasty.keys["acme"], ASKED) as client:
        client.read_head()
        client.read_contents(3)
        server.kill()
    open_holds = hasty.books.open_holds()
    assert open_holds > 0
    time.sleep(HOLD_LEASE_S)
    assert hasty.run("manage.py", "housekeeping", "--once").startswith(f"{open_holds} holds expired")
    assert hasty.books.open_holds() == 0
    hasty.run("manage.py", "reconcile_ledger")
