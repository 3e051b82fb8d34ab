"""Anthropic Messages (`POST /v1/messages`, version 2023-06-01), in both modes.

    turns.py     messages as turns: roles that alternate, results first, ids of tool calls that the provider takes
    asking.py    the body: system, turns, tools and their choice, thinking, output format
    schemas.py   JSON Schema cut to the subset that structured outputs take
    answering.py whole answers, streams, usage, failures

Source: the types of the official SDK (2.14), November 2026; what those do not say comes from its documentation. The
version is the older one on purpose: the newer one refuses sampling parameters for every model.

Not carried, because the dialect has no word for it (the request is fitted to its target before it comes here): seed, penalties,
logprobs, logit_bias, verbosity, metadata, prompt_cache_key, names of speakers, image detail, JSON mode, audio, custom
tools, more than one choice. What has no word and would change the question raises UnsupportedParameter.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from chat.errors import UpstreamFailure
from chat.providers.anthropic.answering import whole_answer
from chat.providers.anthropic.asking import asking_body
from chat.providers.anthropic.failures import failure_of
from chat.providers.anthropic.streaming import AnthropicStream
from chat.providers.base import Asked, StreamDecoder, UpstreamCall
from chat.schema.reply import Reply

__all__ = ["AnthropicAdapter"]

VERSION = "2023-06-01"

_encoder = msgspec.json.Encoder()


class AnthropicAdapter:
    def build(self, asked: Asked) -> UpstreamCall:
        provider = asked.target.provider
        headers = [
            ("content-type", "application/json"),
            ("accept", "text/event-stream" if asked.request.stream else "application/json"),
            ("anthropic-version", VERSION),
        ]
        if provider.api_key:
            headers.append(("x-api-key", provider.api_key))
        return UpstreamCall(f"{provider.base_url}/v1/messages", tuple(headers), _encoder.encode(asking_body(asked)))

    def reply(self, _asked: Asked, body: bytes) -> Reply:
        return whole_answer(body)

    def stream(self, _asked: Asked) -> StreamDecoder:
        return AnthropicStream()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        return failure_of(status, headers, body)
