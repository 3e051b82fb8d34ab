"""Credit that is tight: streams hold as they flow, end cleanly at zero, and long limits do not hold what nobody spends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI, OpenAI

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import ask, assert_booked
from tests.live.books import Books
from tests.live.catalog import MAX_OUTPUT_TOKENS, PRICES
from tests.live.gateway import Installation, Server

STREAMS = 100
PROMPT = "Tell me everything."
PROMPT_TOKENS = 5


def client_with(
    installation: Installation, server: Server, credits_text: str, *, budget_microcredits: int | None = None
) -> OpenAI:
    """Of a new workspace with so many credits; with a budget, by a key that has it for a month."""
    output = installation.run("manage.py", "create_workspace", "Tight", "--credits", credits_text, "--json")
    made = json.loads(output.strip().splitlines()[-1])
    key = made["key"]
    if budget_microcredits is not None:
        key = installation.run("-m", "tests.live.acts", "mint", made["workspace_id"], "frugal", str(budget_microcredits))
    return OpenAI(base_url=server.base_url, api_key=key, max_retries=0, timeout=30)


def test_a_balance_that_runs_out_ends_the_stream_cleanly(
    installation: Installation, server: Server, provider: FakeProvider, books: Books
):
    provider.script("metered", Script(text="abcdefg " * 7_500))
    with client_with(installation, server, "0.3") as client:
        answer = ask(client, PROMPT, model="metered", stream=True, max_tokens=100_000)
    assert answer.parts[0].finish_reason == "length"
    assert answer.extra == {"stop_cause": "insufficient_credits"}
    booked = books.of(answer.id)
    delivered = len(answer.text.encode())
    input_price, output_price = PRICES["metered"]
    assert booked.end_state == "out_of_credit"
    assert booked.charged_microcredits == PROMPT_TOKENS * input_price + -(-delivered // 4) * output_price
    assert booked.charged_microcredits == answer.charged_microcredits <= booked.held_microcredits <= 300_000
    assert len(booked.states) == 3
    assert "open" not in booked.states


def test_a_long_stream_holds_as_it_flows_and_pays_what_the_provider_counted(
    client: OpenAI, provider: FakeProvider, books: Books
):
    provider.script("metered", Script(text="abcdefg " * 2_500))
    answer = ask(client, PROMPT, model="metered", stream=True, max_tokens=100_000)
    booked = books.of(answer.id)
    assert (booked.end_state, booked.usage_source) == ("done", "reported")
    assert booked.charged_microcredits == answer.charged_microcredits
    assert len(booked.states) > 2


async def test_a_small_budget_serves_many_streams_with_large_limits(
    installation: Installation, server: Server, provider: FakeProvider, books: Books
):
    """2,500 credits are $25; the limits of the streams add up to forty times as much, their cost to next to nothing."""
    provider.script("lavish", Script(text="A short answer.", delay_first_s=0.3))
    with client_with(installation, server, "2500") as made:
        key = made.api_key

    async def one(client: AsyncOpenAI) -> Any:
        messages: Any = [{"role": "user", "content": PROMPT}]
        stream = await client.chat.completions.create(model="lavish", messages=messages, stream=True, max_tokens=100_000)
        return [chunk async for chunk in stream][-1]

    async with AsyncOpenAI(base_url=server.base_url, api_key=key, max_retries=0, timeout=30) as client:
        last_chunks = await asyncio.gather(*(one(client) for _ in range(STREAMS)))
    booked = [books.of(chunk.id) for chunk in last_chunks]
    assert len(booked) == STREAMS
    assert all(record.end_state == "done" for record in booked)
    assert 0 < sum(record.charged_microcredits for record in booked) < 2_500_000_000


def test_a_whole_answer_without_a_limit_is_clamped_to_what_the_credit_covers(
    installation: Installation, server: Server, provider: FakeProvider, books: Books
):
    with client_with(installation, server, "1") as client:
        answer = ask(client, PROMPT, model="metered")
        strict = {"x-strict": "true"}
        with pytest.raises(APIStatusError) as refusal:
            ask(client, PROMPT, model="metered", extra_headers=strict)
    assert refusal.value.status_code == 402
    (seen,) = provider.requests()
    limit = json.loads(seen.body)["max_tokens"]
    assert answer.headers["x-request-adaptations"] == f"clamped=max_tokens:{limit}"
    assert limit == 1_000_000 // 8 // 40
    assert books.of(answer.id).charged_microcredits == answer.charged_microcredits


def test_a_budget_clamps_as_credit_does(installation: Installation, server: Server, provider: FakeProvider, books: Books):
    with client_with(installation, server, "100", budget_microcredits=1_000_000) as client:
        answer = ask(client, PROMPT, model="metered")
    limit = json.loads(provider.requests()[0].body)["max_tokens"]
    assert limit == 1_000_000 // 8 // 40
    assert answer.headers["x-request-adaptations"] == f"clamped=max_tokens:{limit}"
    assert books.of(answer.id).charged_microcredits == answer.charged_microcredits


def test_a_fallback_gets_a_clamp_that_it_takes(
    installation: Installation, server: Server, provider: FakeProvider, books: Books
):
    """Credit for 12,500 tokens of the model asked, whose fallback makes 4,096 at the most."""
    provider.script("metered", Script(status=500))
    with client_with(installation, server, "4") as client:
        answer = ask(client, PROMPT, model="metered")
    assert [seen.json["max_tokens"] for seen in provider.requests()] == [12_500, MAX_OUTPUT_TOKENS]
    assert (answer.model, answer.headers["x-request-adaptations"]) == ("second", f"clamped=max_tokens:{MAX_OUTPUT_TOKENS}")
    assert_booked(books, answer)
