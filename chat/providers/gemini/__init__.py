"""Gemini's generateContent, whole and streamed.

Source: Google's published types (google-genai 3.6) and API description, November 2026. Fields go out in camelCase, the key
in its header and never in the address. What the wire has no place for is listed by `chat.adapt` before a request comes here.

    turns.py      messages as turns      asking.py     the whole body      schemas.py  JSON Schemas as taken there
    answering.py  both modes of answer   usage.py      tokens by class     failure.py  what errors mean
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from chat.errors import UpstreamFailure
from chat.providers.base import Asked, StreamDecoder, UpstreamCall
from chat.providers.gemini.answering import GeminiStream, whole_reply
from chat.providers.gemini.asking import body_of
from chat.providers.gemini.failure import failure_of
from chat.schema.reply import Reply

_encoder = msgspec.json.Encoder()


class GeminiAdapter:
    def build(self, asked: Asked) -> UpstreamCall:
        provider = asked.target.provider
        is_stream = asked.request.stream
        method = "streamGenerateContent?alt=sse" if is_stream else "generateContent"
        headers = [
            ("content-type", "application/json"),
            ("accept", "text/event-stream" if is_stream else "application/json"),
        ]
        if provider.api_key:
            headers.append(("x-goog-api-key", provider.api_key))
        url = f"{provider.base_url}/models/{asked.target.upstream_model}:{method}"
        return UpstreamCall(url, tuple(headers), _encoder.encode(body_of(asked)))

    def reply(self, asked: Asked, body: bytes) -> Reply:
        return whole_reply(asked, body)

    def stream(self, asked: Asked) -> StreamDecoder:
        return GeminiStream(asked)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        return failure_of(status, headers, body)
