"""One streamed answer of this dialect (pure).

A stream is whole at `message_stop`; the finish reason is held back until then, with the last usage, so that a stream that
was cut never looks finished. Events are known by the `type` in their data. Unknown events, blocks and deltas, citations
among them, are passed over; what breaks the grammar of known ones is an answer that cannot be read.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from chat.errors import UpstreamError
from chat.providers.anthropic.answering import arguments_of, call_piece, finish_reason, reported, states_of
from chat.providers.anthropic.failures import failure_inside
from chat.providers.anthropic.grammar import BLOCKS, DELTAS, EVENT, STOP, Block, Event, invalid, known, read
from chat.schema.reply import ChoiceDelta, Chunk, Delta, FunctionPiece, ToolCallPiece


class _Open(msgspec.Struct):
    """A block of a stream while it grows. `number` counts calls only; `is_silent` tells a call whose arguments have not begun."""

    block: Block
    number: int = 0
    is_silent: bool = False
    thoughts: list[str] = msgspec.field(default_factory=list)


class AnthropicStream:
    """Decodes one stream. `_open` has its blocks by their index, in order; None stands for one that does not count."""

    def __init__(self) -> None:
        self.is_done = False
        self._has_begun = False
        self._open: dict[int, _Open | None] = {}
        self._calls = 0
        self._stop_reason: str | None = None
        self._usage: dict[str, Any] = {}

    def decode(self, _event: str, data: bytes) -> Chunk | None:
        if not data or self.is_done:
            return None
        event = read(EVENT, data)
        delta = None
        if event.type == "content_block_delta":
            delta = self._grow(event)
        elif event.type == "content_block_start":
            delta = self._begin(event)
        elif event.type == "content_block_stop":
            delta = self._end(event)
        elif event.type == "message_start":
            self._has_begun = True
            self._count(event.message.usage if event.message else None)
            return Chunk(usage=reported(self._usage))
        elif event.type == "message_delta":
            self._count(event.usage)
            self._stop_reason = (read(STOP, event.delta).stop_reason if event.delta else None) or self._stop_reason
        elif event.type == "message_stop":
            return self._finish()
        elif event.type == "error" or event.error is not None:
            raise failure_inside(event.error)
        return None if delta is None else Chunk((ChoiceDelta(0, delta),))

    def flush(self) -> None:
        if not self._has_begun:
            raise invalid()
        if not self.is_done:
            raise UpstreamError(upstream_status=200)

    def _begin(self, event: Event) -> Delta | None:
        index, block = event.index, known(event.content_block, BLOCKS)
        if index is None or index in self._open:
            raise invalid()
        if block is None:
            self._open[index] = None
            return None
        opened = self._open[index] = _Open(block)
        if block.type != "tool_use":
            return _said(opened, block)
        opened.number, opened.is_silent = self._calls, True
        self._calls += 1
        return Delta(tool_calls=[call_piece(block, "", opened.number)])

    def _grow(self, event: Event) -> Delta | None:
        if event.index not in self._open:
            raise invalid()
        opened, piece = self._open[event.index], known(event.delta, DELTAS)
        if opened is None or piece is None or DELTAS[piece.type] != opened.block.type:
            return None
        if opened.block.type != "tool_use":
            return _said(opened, piece)
        if not piece.partial_json:
            return None
        opened.is_silent = False
        return Delta(tool_calls=[_argued(opened, piece.partial_json)])

    def _end(self, event: Event) -> Delta | None:
        """A call that ends in silence has the arguments it began with, which are none as a rule."""
        opened = self._open.get(event.index) if event.index is not None else None
        if opened is None or not opened.is_silent:
            return None
        opened.is_silent = False
        return Delta(tool_calls=[_argued(opened, arguments_of(opened.block))])

    def _finish(self) -> Chunk:
        opened = [one for one in self._open.values() if one is not None]
        silent = [_argued(one, arguments_of(one.block)) for one in opened if one.is_silent]
        last = ChoiceDelta(0, Delta(tool_calls=silent or UNSET), finish_reason(self._stop_reason))
        for one in opened:
            one.block.thinking = "".join(one.thoughts)
        self.is_done = True
        return Chunk((last,), reported(self._usage), states=states_of([one.block for one in opened]))

    def _count(self, usage: dict[str, Any] | None) -> None:
        """Counts are totals so far: the later one of a class stands for the earlier."""
        for name, value in (usage or {}).items():
            if value is not None:
                self._usage[name] = value


def _said(opened: _Open, piece: Block) -> Delta | None:
    """What a text or thinking block says, at its start or in a delta."""
    if opened.block.type == "text":
        return Delta(content=piece.text) if piece.text else None
    if piece.signature:
        opened.block.signature = piece.signature
    if not piece.thinking:
        return None
    opened.thoughts.append(piece.thinking)
    return Delta(reasoning_content=piece.thinking)


def _argued(opened: _Open, piece: str) -> ToolCallPiece:
    return ToolCallPiece(index=opened.number, function=FunctionPiece(arguments=piece))
