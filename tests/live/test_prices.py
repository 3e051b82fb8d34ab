"""A price that changes while a request is in flight: the old version is used to its end, the new one from the next request on."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.catalog import CLASS_PRICES, PRICES
from tests.live.gateway import Installation, Server
from tests.live.rows.sabotage import run_sql
from tests.live.wire import WireClient

USAGE = {"prompt_tokens": 10, "completion_tokens": 200}
FOLLOWED_WITHIN_S = 5.0
NEW_PRICE = """
INSERT INTO chat_price (model_id, input_microcredits, output_microcredits, pdf_page_microcredits, created_at)
SELECT model_id, input_microcredits * 3, output_microcredits * 2, 0, created_at
FROM chat_price WHERE id = (SELECT MAX(p.id) FROM chat_price p JOIN chat_catalogmodel m ON m.id = p.model_id WHERE m.slug = 'repriced')
"""
STAMP = "UPDATE chat_catalogstamp SET version = version + 1"


def prices(http: httpx.Client) -> dict[str, float]:
    return dict(http.get("/models/repriced").json()["prices"])


def cost(shown: dict[str, float]) -> int:
    return int(USAGE["prompt_tokens"] * shown["input"] + USAGE["completion_tokens"] * shown["output"])


CLASSES_USED = {
    "prompt_tokens": 1000,
    "completion_tokens": 300,
    "prompt_tokens_details": {"cached_tokens": 400, "cache_write_tokens": 250, "audio_tokens": 50},
    "completion_tokens_details": {"reasoning_tokens": 120},
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tokens_cost_what_their_class_does(http: httpx.Client, provider: FakeProvider, books: Books, label: str, stream):
    """To the microcredit in the entry, and line by line on the receipt."""
    provider.script("classes", Script(text="one two", usage=CLASSES_USED))
    body = {"model": "classes", "messages": [{"role": "user", "content": "Hello " * 300}], "stream": stream, "max_tokens": 300}
    assert http.post("/chat/completions", json=body, headers={"x-request-id": label}).status_code == 200
    tokens = {"input": 300, "cached_input": 400, "cache_write": 250, "audio_input": 50, "output": 180, "reasoning": 120}
    input_credits, output_credits = PRICES["classes"]
    prices = CLASS_PRICES | {"input": input_credits, "output": output_credits}
    costs = {kind: count * prices[kind] for kind, count in tokens.items()}
    booked = books.of_request(label)
    assert booked.entry_microcredits == booked.charged_microcredits == sum(costs.values())
    receipt = http.get(f"/generations/{booked.generation}").json()
    lines = {line["kind"]: (line["quantity"], Decimal(str(line["amount_credits"]))) for line in receipt["lines"]}
    assert lines == {kind: (tokens[kind], Decimal(cost) / 10**6) for kind, cost in costs.items()}


def version_of(books: Books, generation: str) -> int:
    return int(books.rows("SELECT price_version_id FROM billing_usagerecord WHERE generation = %s", generation)[0][0])


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_price_that_changes_meanwhile(
    installation: Installation,
    server: Server,
    http: httpx.Client,
    provider: FakeProvider,
    keys: dict[str, str],
    books: Books,
    label: str,
    stream,
):
    provider.script("repriced", Script(text="one two", usage=USAGE, delay_first_s=3.0), Script(usage=USAGE))
    body: dict[str, Any] = {
        "model": "repriced",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": stream,
        "max_tokens": 300,
    }
    old = prices(http)
    with WireClient(server.port, keys["acme"], body, x_request_id=label) as client:
        provider.wait_for(lambda requests: len(requests) == 1)
        run_sql(installation, NEW_PRICE)
        run_sql(installation, STAMP)
        deadline = time.monotonic() + FOLLOWED_WITHIN_S
        while (new := prices(http)) == old:
            assert time.monotonic() < deadline, "the catalogue does not follow"
        assert (new["input"], new["output"]) == (3 * old["input"], 2 * old["output"])
        assert provider.requests()[0].answered_s is None, "the first is in flight all the while"
        assert client.read_head()[0] == 200
        before = books.of_request(label)
    after = books.of(http.post("/chat/completions", json=body | {"stream": False}).json()["id"])
    assert before.charged_microcredits == before.entry_microcredits == cost(old)
    assert after.charged_microcredits == after.entry_microcredits == cost(new)
    assert version_of(books, before.generation) < version_of(books, after.generation)
    assert all(hold.state == "settled" for hold in (*before.holds, *after.holds))
