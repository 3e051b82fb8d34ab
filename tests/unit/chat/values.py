"""Values that tests of the pure stages share: a model, a target, a request."""

from __future__ import annotations

import msgspec

from billing.pricing import PriceList
from chat.providers.base import Asked
from chat.quote import quote
from chat.schema.content import Content
from chat.schema.delivery import Call
from chat.schema.quote import StepQuote
from chat.schema.request import ChatRequest, UserMessage
from chat.schema.route import ModelInfo, ProviderInfo, Route, Step, TargetInfo, Tenant

EVERYTHING = frozenset({"streaming", "vision", "tools", "json_mode", "json_schema", "reasoning"})
TENANT = Tenant(b"secret", "ws_acme")
PRICES = PriceList(
    7,
    input=250_000_000,
    output=1_000_000_000,
    cached_input=125_000_000,
    cache_write=250_000_000,
    audio_input=250_000_000,
    reasoning=1_000_000_000,
)
PROVIDER = ProviderInfo("local", "openai", "http://127.0.0.1:9/v1", "sk-upstream", allow_private_address=True)


def target(*quirks: str) -> TargetInfo:
    return TargetInfo(1, PROVIDER, "upstream-model", 1, 0, 5, 60, 60, 600, frozenset(quirks))


def model(slug: str = "gpt-test", capabilities: frozenset = EVERYTHING, quirks: tuple[str, ...] = ()) -> ModelInfo:
    return ModelInfo(slug, slug, "tests", "chat", 1000, 100, capabilities, PRICES, (target(*quirks),), 0)


def asked_of(asked: ChatRequest, *quirks: str, tenant: Tenant = TENANT, **states: bytes) -> Asked:
    """The request as it is asked of a target with these quirks."""
    one = model(quirks=quirks)
    return Asked(asked, one, one.targets[0], tenant, states)


def request(**fields: object) -> ChatRequest:
    asked = ChatRequest(model="gpt-test", messages=[UserMessage(content="Hello")])
    return msgspec.structs.replace(asked, **fields)


def route(*models: ModelInfo) -> Route:
    steps = tuple(Step(one, one.targets) for one in models)
    return Route(models[0].slug, steps, tuple(range(len(models))))


def call() -> Call:
    return Call(generation="chatcmpl-1", request_id="req-1", started_s=100.0, authorization=())


def bounds(**fields: object) -> StepQuote:
    """The quote of a prompt with 41 bytes, for one step: 121 tokens of prompt, 100 of output, at the most."""
    return quote(request(**fields), route(model()), Content(41)).steps[0]
