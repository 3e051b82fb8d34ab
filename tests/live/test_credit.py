"""Credit that is tight: streams hold as they flow, end cleanly at zero, and long limits do not hold what nobody spends.

What limits a stream is its workspace's credit or its key's budget; the proofs are made for both.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI, OpenAI

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import ask, assert_booked, read_stream
from tests.live.books import Books
from tests.live.catalog import LONG_OUTPUT_TOKENS, MAX_OUTPUT_TOKENS, PRICES
from tests.live.gateway import Installation, Server
from tests.live.tenants import Balance, Tenant, Wanted, Watch, balance_of, make_tenants

STREAMS = 100
AT_ONCE = 50  # so many of them at the least hold their first stretch in one moment
PROMPT = "Tell me everything."
PROMPT_TOKENS = 5
LONG_TEXT = f"{'abcdefg' * 9} " * 940  # in words of 64 bytes, each an event of its own
PLENTY = 10**12
ASKED: dict[str, Any] = {
    "messages": [{"role": "user", "content": PROMPT}],
    "stream": True,
    "max_tokens": LONG_OUTPUT_TOKENS,
}

both_limits = pytest.mark.parametrize("limit", ["credit", "budget"])
STOP_CAUSES = {"credit": "insufficient_credits", "budget": "key_budget_exceeded"}


AMOUNTS = {
    "runs out": 300_000,
    "serves many": 2_500_000_000,
    "is shared": 700_000,
    "clamps": 1_000_000,
    "clamps a stream": 1_000_000,
    "clamps the fallback": 4_000_000,
}
"""What the proofs have to spend, in microcredits."""


@pytest.fixture(scope="module")
def tenants(installation: Installation) -> dict[tuple[str, str], Tenant]:
    """For each proof a workspace that has so much to spend by its credit, and one with plenty and a budget on its key."""
    wanted = {(proof, "credit"): Wanted(credit_microcredits=amount) for proof, amount in AMOUNTS.items()}
    wanted |= {
        (proof, "budget"): Wanted(credit_microcredits=PLENTY, budget_microcredits=amount) for proof, amount in AMOUNTS.items()
    }
    return dict(zip(wanted, make_tenants(installation, *wanted.values()), strict=True))


def client_of(tenant: Tenant, server: Server) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key=tenant.key, max_retries=0, timeout=30)


def async_client_of(tenant: Tenant, server: Server) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=server.base_url, api_key=tenant.key, max_retries=0, timeout=60)


def spent(balance: Balance, limit: str, amount_microcredits: int) -> int:
    """What is gone of the amount, when nothing is held any more."""
    assert (balance.held, balance.budget_held) == (0, 0)
    if limit == "credit":
        return amount_microcredits - balance.posted
    assert PLENTY - balance.posted == balance.budget_spent
    return balance.budget_spent


@both_limits
def test_a_balance_that_runs_out_ends_the_stream_cleanly(
    installation: Installation, server: Server, provider: FakeProvider, books: Books, tenants: Any, limit: str
):
    """What was delivered is charged, from what is held; the provider is told to stop."""
    amount, tenant = AMOUNTS["runs out"], tenants["runs out", limit]
    provider.script("metered", Script(text=LONG_TEXT))
    once = {"idempotency-key": f"runs-out-of-{limit}"}
    with client_of(tenant, server) as client, Watch(installation, tenant) as watch:
        answer = ask(client, PROMPT, model="metered", stream=True, max_tokens=LONG_OUTPUT_TOKENS, extra_headers=once)
    assert answer.parts[0].finish_reason == "length"
    assert answer.extra == {"stop_cause": STOP_CAUSES[limit]}
    assert LONG_TEXT.startswith(answer.text)
    delivered = len(answer.text.encode())
    assert 0 < delivered < len(LONG_TEXT)
    booked = books.of(answer.id)
    input_price, output_price = PRICES["metered"]
    assert (booked.status, booked.end_state, booked.usage_source) == (200, "out_of_credit", "estimated")
    assert (booked.prompt_tokens, booked.completion_tokens) == (PROMPT_TOKENS, -(-delivered // 4))
    assert booked.charged_microcredits == PROMPT_TOKENS * input_price + booked.completion_tokens * output_price
    assert booked.charged_microcredits == answer.charged_microcredits == booked.entry_microcredits
    assert booked.charged_microcredits <= booked.held_microcredits <= amount
    assert len(booked.states) == 3
    assert "open" not in booked.states
    assert spent(balance_of(books, tenant), limit, amount) == booked.charged_microcredits
    assert all(sample.is_kept for sample in watch.samples)
    (seen,) = provider.wait_for(lambda requests: all(seen.closed_s or seen.answered_s for seen in requests))
    assert seen.json["max_tokens"] == LONG_OUTPUT_TOKENS
    with client_of(tenant, server) as client:
        again = ask(client, PROMPT, model="metered", stream=True, max_tokens=LONG_OUTPUT_TOKENS, extra_headers=once)
    assert again.id != answer.id, "a part is not what a repeat should get"


def test_a_long_stream_holds_as_it_flows_and_pays_what_the_provider_counted(
    client: OpenAI, provider: FakeProvider, books: Books
):
    provider.script("metered", Script(text=LONG_TEXT[:20_000]))
    answer = ask(client, PROMPT, model="metered", stream=True, max_tokens=LONG_OUTPUT_TOKENS)
    booked = books.of(answer.id)
    assert (booked.end_state, booked.usage_source) == ("done", "reported")
    assert booked.charged_microcredits == answer.charged_microcredits
    assert len(booked.states) > 2


async def many_at_once(tenant: Tenant, server: Server, model: str, count: int) -> list[Any]:
    """So many streams at the same time: the chunks of each, or the error that it ended with."""

    async def one(client: AsyncOpenAI) -> Any:
        stream: Any = await client.chat.completions.create(model=model, **ASKED)
        return [chunk async for chunk in stream]

    async with async_client_of(tenant, server) as client:
        return await asyncio.gather(*(one(client) for _ in range(count)), return_exceptions=True)


@pytest.mark.slow
@both_limits
async def test_a_small_budget_serves_many_streams_with_large_limits(
    installation: Installation, server: Server, provider: FakeProvider, books: Books, tenants: Any, limit: str
):
    """2,500 credits are $25; the limits of the streams add up to forty times as much, their cost to next to nothing.

    That they run at the same time is seen in what is held: none of them needs more than its first stretch.
    """
    amount, tenant = AMOUNTS["serves many"], tenants["serves many", limit]
    assert STREAMS * LONG_OUTPUT_TOKENS * PRICES["lavish"][1] == 40 * amount
    provider.script("lavish", Script(text="A short answer.", delay_first_s=3.0))
    with Watch(installation, tenant) as watch:
        streams = await many_at_once(tenant, server, "lavish", STREAMS)
    answers = [read_stream(chunks, {}) for chunks in streams]
    booked = [books.of(answer.id) for answer in answers]
    assert {record.end_state for record in booked} == {"done"}
    assert {answer.text for answer in answers} == {"A short answer."}
    assert [record.charged_microcredits for record in booked] == [answer.charged_microcredits for answer in answers]
    charged = sum(record.charged_microcredits for record in booked)
    assert spent(balance_of(books, tenant), limit, amount) == charged > 0
    assert all(sample.is_kept for sample in watch.samples)
    [stretch] = {record.held_microcredits for record in booked}
    assert max(sample.held for sample in watch.samples) >= AT_ONCE * stretch > charged


@both_limits
async def test_streams_that_share_what_is_left_never_spend_more(
    installation: Installation, server: Server, provider: FakeProvider, books: Books, tenants: Any, limit: str
):
    """Whatever the interleaving: some are refused at the start, the others end when nothing is left to hold."""
    amount, tenant = AMOUNTS["is shared"], tenants["is shared", limit]
    provider.script("metered", Script(text=LONG_TEXT))
    with Watch(installation, tenant) as watch:
        streams = await many_at_once(tenant, server, "metered", 12)
    refused = [result.status_code for result in streams if isinstance(result, APIStatusError)]
    answers = [read_stream(result, {}) for result in streams if isinstance(result, list)]
    assert (len(refused) + len(answers), set(refused) <= {402}, len(answers) > 1) == (12, True, True)
    assert {answer.parts[0].finish_reason for answer in answers} == {"length"}
    assert all(answer.extra == {"stop_cause": STOP_CAUSES[limit]} for answer in answers)
    booked = [books.of(answer.id) for answer in answers]
    assert all(0 < record.charged_microcredits <= record.held_microcredits for record in booked)
    charged = sum(record.charged_microcredits for record in booked)
    assert spent(balance_of(books, tenant), limit, amount) == charged <= amount
    assert all(sample.is_kept for sample in watch.samples)


@both_limits
def test_a_stream_that_may_reason_out_of_sight_is_clamped_to_what_can_be_spent(
    server: Server, provider: FakeProvider, books: Books, tenants: Any, limit: str
):
    """Nothing that is sent would tell how much it thinks, so it is held for like a whole answer."""
    with client_of(tenants["clamps a stream", limit], server) as client:
        answer = ask(client, PROMPT, model="first", stream=True)
    (seen,) = provider.requests()
    max_tokens = AMOUNTS["clamps a stream"] // 8 // PRICES["first"][1]
    assert json.loads(seen.body)["max_tokens"] == max_tokens < MAX_OUTPUT_TOKENS
    assert answer.headers["x-request-adaptations"] == f"clamped=max_tokens:{max_tokens}"
    assert books.of(answer.id).charged_microcredits == answer.charged_microcredits > 0


@both_limits
def test_a_whole_answer_without_a_limit_is_clamped_to_what_can_be_spent(
    server: Server, provider: FakeProvider, books: Books, tenants: Any, limit: str
):
    with client_of(tenants["clamps", limit], server) as client:
        answer = ask(client, PROMPT, model="metered")
        strict = {"x-strict": "true"}
        with pytest.raises(APIStatusError) as refusal:
            ask(client, PROMPT, model="metered", extra_headers=strict)
    assert refusal.value.status_code == 402
    (seen,) = provider.requests()
    max_tokens = json.loads(seen.body)["max_tokens"]
    assert answer.headers["x-request-adaptations"] == f"clamped=max_tokens:{max_tokens}"
    assert max_tokens == AMOUNTS["clamps"] // 8 // 40
    assert books.of(answer.id).charged_microcredits == answer.charged_microcredits


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_dearer_fallback_takes_another_hold(client: OpenAI, provider: FakeProvider, books: Books, stream):
    provider.script("cheap", Script(status=500))
    provider.script("dear", Script(text="Served.", usage={"prompt_tokens": 7, "completion_tokens": 3000}))
    answer = ask(client, model="cheap", stream=stream)
    headers = answer.headers
    assert (answer.model, headers["x-fallback-from"], headers["x-fallback-depth"]) == ("dear", "cheap", "1")
    booked = assert_booked(books, answer)
    assert booked.entry_microcredits == 7 * 1000 + 3000 * 4000
    assert [hold.sequence for hold in booked.holds] == [0, 1]
    assert booked.states == ["settled", "settled"]
    assert booked.holds[0].amount_microcredits < booked.entry_microcredits <= booked.held_microcredits


def test_a_fallback_gets_a_clamp_that_it_takes(server: Server, provider: FakeProvider, books: Books, tenants: Any):
    """Credit for 12,500 tokens of the model asked, whose fallback makes 4,096 at the most."""
    provider.script("metered", Script(status=500))
    with client_of(tenants["clamps the fallback", "credit"], server) as client:
        answer = ask(client, PROMPT, model="metered")
    assert [seen.json["max_tokens"] for seen in provider.requests()] == [12_500, MAX_OUTPUT_TOKENS]
    assert (answer.model, answer.headers["x-request-adaptations"]) == ("second", f"clamped=max_tokens:{MAX_OUTPUT_TOKENS}")
    assert_booked(books, answer)
