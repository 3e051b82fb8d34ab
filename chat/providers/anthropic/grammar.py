"""What the provider sends in this dialect, as it is written (pure). Fields nobody asked for are not read."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from chat.errors import UpstreamInvalidResponse

T = TypeVar("T")


class Block(msgspec.Struct):
    """A content block, or a delta of one."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw()
    partial_json: str | None = None


class _Kind(msgspec.Struct):
    type: str = ""


class Error(msgspec.Struct):
    type: Any = None


class Answer(msgspec.Struct):
    content: list[Raw] | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: Error | None = None


class Event(msgspec.Struct):
    type: str = ""
    index: int | None = None
    message: Answer | None = None
    content_block: Raw = Raw()
    delta: Raw = Raw()
    usage: dict[str, Any] | None = None
    error: Error | None = None


class Stop(msgspec.Struct):
    stop_reason: str | None = None


BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "thinking", "input_json_delta": "tool_use"}
"""Deltas that count, each with the kind of block it belongs to."""

ANSWER = msgspec.json.Decoder(Answer)
EVENT = msgspec.json.Decoder(Event)
_KIND = msgspec.json.Decoder(_Kind)
_BLOCK = msgspec.json.Decoder(Block)
STOP = msgspec.json.Decoder(Stop)


def read(decoder: msgspec.json.Decoder[T], data: bytes | Raw) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid() from error


def invalid() -> UpstreamInvalidResponse:
    return UpstreamInvalidResponse(upstream_status=200)


def known(raw: Raw, kinds: Container[str]) -> Block | None:
    """A block or delta of one of these kinds; None for any other, whatever is in it."""
    if read(_KIND, raw).type not in kinds:
        return None
    return read(_BLOCK, raw)
