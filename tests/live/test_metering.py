"""Where the meter, which counts bytes, and the provider, which counts tokens, are far apart; and what comes all at once."""

from __future__ import annotations

import json

import pytest
from openai import OpenAI

from chat.meter import BYTES_PER_TOKEN
from chat.schema.quote import STRETCH_TOKENS
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import ask
from tests.live.books import Books
from tests.live.catalog import LONG_OUTPUT_TOKENS, PRICES
from tests.live.gateway import Installation, Server
from tests.live.tenants import Wanted, make_tenants

PROMPT = "Tell me everything."
PROMPT_TOKENS = 5
WORD = "abcdefg "
INPUT_MICROCREDITS, OUTPUT_MICROCREDITS = PRICES["metered"]


@pytest.fixture
def client_with(installation: Installation, server: Server):
    """Of a new workspace that has so much credit."""

    def made(credit_microcredits: int) -> OpenAI:
        (tenant,) = make_tenants(installation, Wanted(credit_microcredits=credit_microcredits))
        return OpenAI(base_url=server.base_url, api_key=tenant.key, max_retries=0, timeout=30)

    return made


@pytest.mark.parametrize("has_one_chunk", [False, True], ids=["chunks", "one chunk"])
def test_a_first_batch_that_is_too_much_is_not_free(client_with, provider: FakeProvider, books: Books, has_one_chunk):
    """Everything comes in one read, and the credit is for the first stretch of it: what is covered is sent and paid."""
    provider.script("metered", Script(events=coalesced(WORD * 4_000, 1) if has_one_chunk else coalesced(WORD, 4_000)))
    with client_with(100_000) as client:
        answer = ask(client, PROMPT, model="metered", stream=True, max_tokens=LONG_OUTPUT_TOKENS)
    delivered = len(answer.text)
    assert delivered == STRETCH_TOKENS * BYTES_PER_TOKEN
    assert answer.parts[0].finish_reason == "length"
    booked = books.of(answer.id)
    cost = PROMPT_TOKENS * INPUT_MICROCREDITS + delivered // 4 * OUTPUT_MICROCREDITS
    assert (booked.end_state, booked.charged_microcredits, answer.charged_microcredits) == ("out_of_credit", cost, cost)


def coalesced(word: str, count: int) -> tuple[bytes, ...]:
    """Events that the fake writes as one: what follows the first stands behind it in the same piece of data."""
    events = [chunk({"content": word}) for _ in range(count)] + [chunk({}, "stop"), b"[DONE]"]
    return (b"\n\ndata: ".join(events),)


def chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice]}, separators=(",", ":")).encode()


def test_more_tokens_than_the_bytes_told_are_paid_where_there_is_credit(
    client: OpenAI, client_with, provider: FakeProvider, books: Books
):
    """A token a byte: thrice what the meter counted. Whoever has the credit pays it; what he has not is ours."""
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 6_000}
    provider.script("metered", Script(text="\u00b6" * 3_000, usage=usage))
    cost = PROMPT_TOKENS * INPUT_MICROCREDITS + 6_000 * OUTPUT_MICROCREDITS
    answer = ask(client, PROMPT, model="metered", stream=True, max_tokens=LONG_OUTPUT_TOKENS)
    booked = books.of(answer.id)
    assert (booked.charged_microcredits, booked.overrun_microcredits, booked.usage_source) == (cost, 0, "reported")
    assert answer.charged_microcredits == cost <= booked.held_microcredits
    with client_with(200_000) as modest:
        short = books.of(ask(modest, PROMPT, model="metered", stream=True, max_tokens=LONG_OUTPUT_TOKENS).id)
    assert short.charged_microcredits + short.overrun_microcredits == cost
    assert short.charged_microcredits == short.held_microcredits <= 200_000
