"""Exchanges made up at random, through the real server: nobody pays more than was held, and nobody for an error.

What the client was told, the usage record, the entry and the holds of each must agree.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from billing.pricing import microcredits
from chat.sse import COMMENT
from tests.fakes.launch import FakeProvider
from tests.live.books import Books
from tests.live.catalog import PRICES
from tests.live.exchanges import Exchange, Heard, ask, make_exchange
from tests.live.gateway import Installation, Server
from tests.live.tenants import Tenant, Wanted, balance_of, make_tenants

IN_FLIGHT = 48
PLENTY = 10**13
SHOWN = 10
SETTLED_WITHIN_S = 10.0

# What the poor have, by credit and by budget; more of each in a longer run, so that they last.
AMOUNTS = (0, 1, 20_000, 90_000, 300_000, 700_000, 2_000_000, 6_000_000)
EXCHANGES_PER_POOR = 20

_RECORDS = """
SELECT request_id, generation, status, charged_microcredits, overrun_microcredits, model_used, prompt_tokens,
  completion_tokens, usage_source, end_state, is_stream, fallback_depth
FROM billing_usagerecord WHERE workspace_id = %s
"""
_HOLDS = """
SELECT h.generation, h.amount_microcredits, h.settled_microcredits, h.state
FROM billing_hold h JOIN billing_account a ON a.id = h.account_id WHERE a.workspace_id = %s ORDER BY h.sequence
"""
_ENTRIES = """
SELECT e.generation, e.amount_microcredits
FROM billing_entry e JOIN billing_account a ON a.id = e.debit_account_id WHERE e.kind = 'usage' AND a.workspace_id = %s
"""


class Booked(msgspec.Struct):
    """What the database has of one exchange."""

    request_id: str
    generation: str
    status: int
    charged: int
    overrun: int
    model_used: str
    prompt_tokens: int
    completion_tokens: int
    usage_source: str
    end_state: str
    is_stream: bool
    fallback_depth: int
    holds: list[tuple[int, int, str]] = []
    entries: list[int] = []

    @property
    def held(self) -> int:
        return sum(amount for amount, _, _ in self.holds)


def read_books(books: Books, tenants: list[Tenant]) -> dict[str, list[Booked]]:
    """By label."""
    booked: dict[str, list[Booked]] = defaultdict(list)
    for tenant in tenants:
        holds, entries = defaultdict(list), defaultdict(list)
        for generation, *hold in books.rows(_HOLDS, tenant.workspace_id):
            holds[generation].append(tuple(hold))
        for generation, amount in books.rows(_ENTRIES, tenant.workspace_id):
            entries[generation].append(amount)
        for row in books.rows(_RECORDS, tenant.workspace_id):
            record = Booked(*row)
            record.holds, record.entries = holds.pop(record.generation, []), entries.pop(record.generation, [])
            booked[record.request_id].append(record)
        assert (dict(holds), dict(entries)) == ({}, {}), "money moved without a record"
    return booked


def faults_of(exchange: Exchange, heard: Heard, records: list[Booked]) -> Iterator[str]:
    """What is wrong with one exchange."""
    if not records:
        # Who left before his request was read leaves nothing behind; everybody else a record.
        if exchange.stays or heard.status:
            yield "no record"
        return
    if len(records) > 1:
        yield f"{len(records)} records"
    booked = records[0]
    yield from faults_of_money(booked)
    if heard.status and heard.status != booked.status and not heard.body.startswith(COMMENT):
        yield f"the client was answered {heard.status}"
    if exchange.stays:
        if not heard.is_whole:
            yield "the answer has no end"
        yield from faults_of_answer(exchange, heard, booked)


def faults_of_money(booked: Booked) -> Iterator[str]:
    charged = booked.charged
    if not 0 <= charged <= booked.held:
        yield f"charged {charged} of {booked.held} held"
    if booked.entries != ([charged] if charged else []):
        yield f"entries {booked.entries}"
    if sum(settled for _, settled, _ in booked.holds) != charged:
        yield "holds paid another sum"
    if any(state != ("settled" if settled else "voided") for _, settled, state in booked.holds):
        yield f"holds {booked.holds}"
    if booked.status >= 400 and (charged, booked.overrun) != (0, 0):
        yield "an error was charged"
    if booked.overrun and charged != booked.held and not booked.fallback_depth:
        yield "an overrun while more was held"  # a cheaper fallback is paid up to its own bound, for less than was held
    cost = 0
    if booked.usage_source:
        input_microcredits, output_microcredits = PRICES[booked.model_used]
        cost = booked.prompt_tokens * input_microcredits + booked.completion_tokens * output_microcredits
    if booked.status < 400 and charged + booked.overrun != cost:
        yield f"charged {charged} and overrun {booked.overrun} for what costs {cost}"


def faults_of_answer(exchange: Exchange, heard: Heard, booked: Booked) -> Iterator[str]:
    """What the client was told, if it stayed to the end."""
    has_events = heard.headers["content-type"].startswith("text/event-stream")
    chunks = list(_frames(heard.body)) if has_events else [json.loads(heard.body)]
    told = [chunk["credits_used"] for chunk in chunks if "credits_used" in chunk]
    if booked.status >= 400:
        if told or "error" not in chunks[-1] or heard.headers.get("x-credits-used", "0" if has_events else "") != "0":
            yield "an error that does not say it is free"
        return
    if not booked.is_stream and heard.headers["x-credits-used"] != _text(told[0]):
        yield "header and body tell different charges"
    has_failed = any("error" in chunk for chunk in chunks)
    if len(told) != (0 if has_failed else 1) or (booked.end_state in {"done", "length", "out_of_credit"}) == has_failed:
        yield f"the charge was told {len(told)} times, the end was {booked.end_state}"
    if told and microcredits(_text(told[0])) != booked.charged:
        yield f"told {told[0]}"
    size = sum(_output_bytes(choice) for chunk in chunks for choice in chunk.get("choices", ()))
    if booked.usage_source == "estimated" and _never_counts(exchange) and booked.completion_tokens > -(-size // 4):
        yield f"{booked.completion_tokens} tokens for {size} bytes"


def _frames(body: bytes) -> Iterator[dict[str, Any]]:
    for frame in body.split(b"\n\n"):
        if frame.startswith(b"data: {"):
            yield json.loads(frame.removeprefix(b"data: "), parse_float=Decimal)


def _text(number: Decimal | float) -> str:
    return f"{Decimal(repr(number)) if isinstance(number, float) else number}"


def _output_bytes(choice: dict[str, Any]) -> int:
    message = choice.get("delta") or choice.get("message") or {}
    texts = [message.get("content"), message.get("refusal"), message.get("reasoning_content")]
    for call in message.get("tool_calls") or ():
        texts += [call["function"].get("name"), call["function"].get("arguments")]
    return sum(len(text.encode()) for text in texts if text)


def _never_counts(exchange: Exchange) -> bool:
    return all(script.usage is None for script in exchange.scripts.values())


async def have_exchanges(port: int, tenants: dict[str, Tenant], exchanges: list[Exchange]) -> list[Heard]:
    turns = asyncio.Semaphore(IN_FLIGHT)

    async def one(exchange: Exchange) -> Heard:
        async with turns:
            return await ask(port, tenants[exchange.tenant].key, exchange)

    return await asyncio.gather(*map(one, exchanges))


def wait_until_settled(books: Books) -> None:
    """Of those who left, the settlement may still be on its way."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while books.count_holds("open"):
        assert time.monotonic() < deadline, "a hold is still open"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "count",
    [pytest.param(300, id="short"), pytest.param(20_000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)])],
)
def test_nobody_pays_more_than_was_held_and_nobody_for_an_error(
    installation: Installation, server: Server, provider: FakeProvider, books: Books, count: int
):
    wanted = {"rich": Wanted(credit_microcredits=PLENTY)}
    for number in range(count // EXCHANGES_PER_POOR):
        amount = AMOUNTS[number % len(AMOUNTS)]
        wanted[f"tight-{number}"] = Wanted(credit_microcredits=amount)
        wanted[f"budgeted-{number}"] = Wanted(credit_microcredits=PLENTY, budget_microcredits=amount)
    poor = [name for name in wanted if name != "rich"]
    tenants = dict(zip(wanted, make_tenants(installation, *wanted.values()), strict=True))
    seed = random.getrandbits(32)
    exchanges = [make_exchange(seed, number, poor) for number in range(count)]
    heard = asyncio.run(have_exchanges(server.port, tenants, exchanges))
    wait_until_settled(books)
    booked = read_books(books, list(tenants.values()))
    faults = [
        f"{fault}: {heard_of} {booked[exchange.label]} of seed {seed} {exchange}"
        for exchange, heard_of in zip(exchanges, heard, strict=True)
        for fault in faults_of(exchange, heard_of, booked[exchange.label])
    ]
    assert not faults, "\n\n".join(faults[:SHOWN])
    assert all(balance_of(books, tenant).posted >= 0 for tenant in tenants.values())
    installation.run("manage.py", "reconcile_ledger")
