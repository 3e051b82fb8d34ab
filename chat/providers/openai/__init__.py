"""OpenAI Chat Completions, and every server that speaks it (vLLM, llama.cpp, Ollama, Azure and others).

    asking.py     address, headers and body
    answering.py  whole answers, streams, usage
    calls.py      tool calls, whole and in pieces
    failures.py   what its errors mean

Source: OpenAI's published types and API description, November 2026. Quirks of a target say where a server differs.
Decoding is lenient where servers are known to differ without harm (nulls for absent fields, usage on any chunk, no
`[DONE]`), strict where a guess would change what the client sees. Fields nobody asked for are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping

from chat.errors import UpstreamFailure
from chat.providers.base import Asked, StreamDecoder, UpstreamCall
from chat.providers.openai.answering import OpenAIStream, whole_answer
from chat.providers.openai.asking import asking
from chat.providers.openai.failures import failure_of
from chat.schema.reply import Reply

__all__ = ["OpenAIAdapter"]


class OpenAIAdapter:
    def build(self, asked: Asked) -> UpstreamCall:
        return asking(asked)

    def reply(self, asked: Asked, body: bytes) -> Reply:
        return whole_answer(asked, body)

    def stream(self, asked: Asked) -> StreamDecoder:
        return OpenAIStream(asked)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        return failure_of(status, headers, body)
