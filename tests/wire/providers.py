"""What the wire suite knows of each provider. Another dialect is one entry here and its folder of cases."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec
import pydantic
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming, CompletionCreateParamsStreaming

from chat.schema.route import Dialect
from chat.sse import Event
from tests.wire import gemini_types
from tests.wire.sdk_types import validator

Check = Callable[[Any], object]
"""Takes a JSON value; raises if it is not what the official SDK describes."""


class Provider(msgspec.Struct, frozen=True):
    """`asked` and `asked_to_stream` judge bodies that go out; `replied` and `streamed` what the cases say comes in.

    `ends` tells the event after which a stream is whole.
    """

    dialect: Dialect
    base_url: str
    upstream_model: str
    asked: Check
    asked_to_stream: Check
    replied: Check
    streamed: Check
    ends: Callable[[Event], bool]


def _model(declared: Any) -> Check:
    """Strict: an SDK reads answers leniently, but a case is to show what the provider really sends."""
    return lambda value: _adapter(declared).validate_json(msgspec.json.encode(value), strict=True)


@functools.cache
def _adapter(declared: Any) -> pydantic.TypeAdapter[Any]:
    """Made by whoever is the first to need it: each process imports this module, and few of them run its tests."""
    return pydantic.TypeAdapter(declared)


def _anthropic_event(value: Any) -> object:
    """The SDK passes over a `ping` before it looks at types."""
    return value if value == {"type": "ping"} else _model(RawMessageStreamEvent)(value)


SAMPLING = frozenset({"temperature", "top_p", "top_k"})


def _anthropic_asked(declared: Any) -> Check:
    """The SDK's types are those of a newer version of the API, which takes no sampling parameters; ours takes them."""
    return lambda body: validator(declared).validate_python(
        {name: value for name, value in body.items() if name not in SAMPLING}
    )


def _finishes(event: Event) -> bool:
    """A finish reason; cases with several choices are not cut."""
    return b'"finish_reason": "' in event.data


PROVIDERS = {
    "openai": Provider(
        dialect="openai",
        base_url="https://api.openai.com/v1",
        upstream_model="gpt-5.2",
        asked=lambda body: validator(CompletionCreateParamsNonStreaming).validate_python(body),
        asked_to_stream=lambda body: validator(CompletionCreateParamsStreaming).validate_python(body),
        replied=_model(ChatCompletion),
        streamed=_model(ChatCompletionChunk),
        ends=_finishes,
    ),
    "anthropic": Provider(
        dialect="anthropic",
        base_url="https://api.anthropic.com",
        upstream_model="claude-opus-4-8",
        asked=_anthropic_asked(MessageCreateParamsNonStreaming),
        asked_to_stream=_anthropic_asked(MessageCreateParamsStreaming),
        replied=_model(Message),
        streamed=_anthropic_event,
        ends=lambda event: event.event == "message_stop",
    ),
    "gemini": Provider(
        dialect="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta",
        upstream_model="gemini-3.8-flash",
        asked=gemini_types.check_asked,
        asked_to_stream=gemini_types.check_asked,
        replied=gemini_types.check_answer,
        streamed=gemini_types.check_answer,
        ends=gemini_types.ends,
    ),
}
