"""Credit that expires while a request runs on it: the request is paid from it, and nothing else can be."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.gateway import Installation
from tests.live.wire import WireClient

WORDS = 280
WORD = "abcdefg "
TIMEOUT_S = 20.0
ASKED: dict[str, Any] = {"model": "slow", "messages": [{"role": "user", "content": "Tell me everything."}], "stream": True}
EXPIRIES = """
SELECT e.amount_microcredits FROM billing_entry e JOIN billing_account a ON a.id = e.debit_account_id
JOIN billing_workspace w ON w.id = a.workspace_id WHERE w.name = 'broke' AND e.kind = 'expiry' ORDER BY e.id
"""
ACCOUNT = """
SELECT a.posted_microcredits, a.held_microcredits FROM billing_account a
JOIN billing_workspace w ON w.id = a.workspace_id WHERE w.name = 'broke'
"""


def expiries(books: Books) -> list[int]:
    return [amount for (amount,) in books.rows(EXPIRIES)]


def account(books: Books) -> tuple[int, int]:
    [(posted, held)] = books.rows(ACCOUNT)
    return posted, held


def wait_for(count: int, books: Books) -> list[int]:
    deadline = time.monotonic() + TIMEOUT_S
    while len(booked := expiries(books)) < count:
        assert time.monotonic() < deadline, f"only {booked} expired"
        time.sleep(0.05)
    return booked


@pytest.mark.slow
def test_a_running_request_keeps_what_it_holds_and_the_rest_expires(hasty: Installation, provider: FakeProvider, label: str):
    provider.script("slow", Script(text=WORD * WORDS, delay_between_s=0.05))
    books, granted = hasty.books, 1000 * 10**6
    with hasty.server() as server:
        hasty.run("-m", "tests.live.brief_grant", "broke", "1000", "6")
        with WireClient(server.port, hasty.keys["broke"], ASKED, x_request_id=label) as client:
            assert client.read_head()[0] == 200
            [first] = wait_for(1, books)
            posted, held = account(books)
            assert posted == held == granted - first > 0
            assert len(client.read_contents(WORDS)) == WORDS
            booked = books.of_request(label)
        assert booked.end_state == "done"
        assert 0 < booked.entry_microcredits == booked.charged_microcredits <= held
        _, second = wait_for(2, books)
        assert second == held - booked.charged_microcredits
        assert account(books) == (0, 0)
        with WireClient(server.port, hasty.keys["broke"], ASKED) as client:
            assert client.read_head()[0] == 402
    hasty.run("manage.py", "reconcile_ledger")
