"""Requests that try several targets: what each costs the providers in calls."""

from __future__ import annotations

import msgspec
import pytest

from chat.attempts import Attempts
from chat.errors import UpstreamRateLimited
from chat.health import EXTRA_ALWAYS, EXTRA_SHARE, Health
from chat.outcome import Journal
from chat.quote import quote
from chat.schema.content import Content
from chat.schema.request import UserMessage
from chat.schema.route import ModelInfo, Route
from chat.upstream import Upstream
from tests.unit.chat.test_attempts_documents import Plenty
from tests.unit.chat.values import PROVIDER, TENANT, call, model, request, route, target

REQUESTS = 100
LIMITED = request(messages=[UserMessage(content="[[status 429]]")])


def sandboxed(slug: str, number: int) -> ModelInfo:
    """A model of the one provider, with a target of its own."""
    provider = msgspec.structs.replace(PROVIDER, base_url="sandbox:")
    aimed = msgspec.structs.replace(target(), id=number, provider=provider, upstream_model="echo")
    return msgspec.structs.replace(model(slug), targets=(aimed,))


async def calls_of_a_refused_request(health: Health, way: Route) -> int:
    """How often a provider that refuses everything was asked for one request."""
    content, journal = Content(20), Journal(call())
    attempts = Attempts(Upstream(), health, LIMITED, content, TENANT, Plenty(), journal)
    with pytest.raises(UpstreamRateLimited):
        await attempts.whole(way, quote(LIMITED, way, content))
    return [one.upstream_status for one in journal.attempts].count(429)


async def test_the_chain_of_one_provider_asks_it_a_fifth_more_than_there_are_requests():
    """Its limits open no breaker, so only the budget of extra calls keeps a chain from tripling the load on it."""
    health, way = Health(clock=lambda: 1000.0), route(*(sandboxed(f"model-{number}", number) for number in (1, 2, 3)))
    calls = [await calls_of_a_refused_request(health, way) for _ in range(REQUESTS)]
    assert calls[0] == 3, "the first few may walk the whole chain"
    assert min(calls) == 1, "the model asked is always tried"
    assert sum(calls) == REQUESTS + max(EXTRA_ALWAYS, REQUESTS * EXTRA_SHARE)
