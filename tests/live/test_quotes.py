"""A dry run says what the same request comes to when it is made: admitted or refused, and by what, clamped, and what is held."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from billing.pricing import microcredits
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.catalog import LONG_OUTPUT_TOKENS, PRICES
from tests.live.gateway import Installation, Server
from tests.live.tenants import Tenant, Wanted, make_tenants

PLENTY = 10**12
OUTPUT_MICROCREDITS = PRICES["metered"][1]
STRETCH_MICROCREDITS = 100_000
"""Enough for the first stretch of a stream of `metered`, by far not for its whole bound."""

WANTED = {
    "rich": Wanted(credit_microcredits=PLENTY),
    "tight": Wanted(credit_microcredits=STRETCH_MICROCREDITS),
    "frugal": Wanted(credit_microcredits=PLENTY, budget_microcredits=STRETCH_MICROCREDITS),
    "both": Wanted(credit_microcredits=2 * STRETCH_MICROCREDITS, budget_microcredits=10 * STRETCH_MICROCREDITS),
    "poor": Wanted(credit_microcredits=500),
    "spent": Wanted(credit_microcredits=PLENTY, budget_microcredits=500),
}
ASKED: dict[str, dict[str, Any]] = {
    "no-limit": {},
    "limit": {"max_tokens": LONG_OUTPUT_TOKENS},
    "small-limit": {"max_tokens": 300},
    "two-choices": {"n": 2},
}


@pytest.fixture(scope="module")
def tenants(installation: Installation) -> dict[str, Tenant]:
    return dict(zip(WANTED, make_tenants(installation, *WANTED.values()), strict=True))


@pytest.mark.parametrize("is_strict", [False, True], ids=["lax", "strict"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fields", ASKED)
@pytest.mark.parametrize("name", WANTED)
def test_a_quote_is_kept(
    server: Server,
    provider: FakeProvider,
    books: Books,
    tenants: dict[str, Tenant],
    label: str,
    name: str,
    fields: str,
    stream,
    is_strict,
):
    provider.script("metered", Script(text="Yes.", usage={"prompt_tokens": 1, "completion_tokens": 1}))
    asked = {"model": "metered", "messages": [{"role": "user", "content": "Hello"}], "stream": stream, **ASKED[fields]}
    headers = {"authorization": f"Bearer {tenants[name].key}", "x-request-id": label, "x-strict": str(is_strict).lower()}
    with httpx.Client(base_url=server.base_url, headers=headers, trust_env=False, timeout=20) as client:
        quote = client.post("/chat/completions?dry_run=true", json=asked, headers={"x-request-id": f"{label}-dry"}).json()
        answer = client.post("/chat/completions", json=asked)
    booked = books.of_request(label)
    assert (quote["is_admitted"], quote["refusal"] is None) == (answer.status_code == 200,) * 2
    if answer.status_code == 200:
        assert answer.headers.get("x-request-adaptations", "") == ",".join(quote["route"][0]["adaptations"])
        assert booked.holds[0].amount_microcredits == microcredits(str(quote["credits_held"]))
        assert booked.held_microcredits <= microcredits(str(quote["credits_high"]))
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (402, quote["refusal"])
        assert booked.holds == ()


def test_the_quotes_are_not_all_alike(server: Server, tenants: dict[str, Tenant]):
    """What the proof above would be worth if they were."""
    seen = set()
    for name, tenant in tenants.items():
        for stream in (False, True):
            asked = {"model": "metered", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
            url = f"{server.base_url}/chat/completions?dry_run=true"
            headers = {"authorization": f"Bearer {tenant.key}"}
            quote = httpx.post(url, json=asked, headers=headers, trust_env=False, timeout=20).json()
            seen.add((name, stream, quote["refusal"], bool(quote["route"][0]["adaptations"])))
    assert seen == {
        *(("rich", stream, None, False) for stream in (False, True)),
        *((name, True, None, False) for name in ("tight", "frugal", "both")),
        *((name, False, None, True) for name in ("tight", "frugal", "both")),
        *(("poor", stream, "insufficient_credits", False) for stream in (False, True)),
        *(("spent", stream, "key_budget_exceeded", False) for stream in (False, True)),
    }
