"""Tool calls of this dialect, whole and in pieces (pure).

Whatever a server leaves out, the client gets calls it can answer: each has an id, a name, and a number of its own in its
choice, and only its first piece names it. Servers differ: some give no id (one is made, the same in both modes), no index
(the place in the list counts), one index for all calls (a name with a new id begins a new call), repeat id and name on each
piece, or make up an id for each. A call without a name could never be answered, so it is an answer that cannot be read.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
from msgspec import UNSET

from chat.errors import UpstreamInvalidResponse
from chat.providers.base import Asked
from chat.schema.reply import CustomPiece, FunctionPiece, ToolCallPiece

_encoder = msgspec.json.Encoder()


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class Custom(msgspec.Struct):
    name: str | None = None
    input: str | None = None


class ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: Function | None = None
    custom: Custom | None = None


class CallIds:
    """Makes ids for the calls of one answer. They differ from turn to turn, for what was asked is part of them."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._seed = b""

    def make(self, choice: int, number: int) -> str:
        if not self._seed:
            said = (self._asked.tenant.workspace, self._asked.request.messages)
            self._seed = hashlib.sha256(_encoder.encode(said)).digest()
        return "call_" + hashlib.sha256(b"%b%d.%d" % (self._seed, choice, number)).hexdigest()[:24]


def whole_call(call: ToolCall, choice: int, number: int, ids: CallIds) -> ToolCallPiece:
    return _named(call, ids, choice, number)


class _Begun(msgspec.Struct):
    """`given_id` is empty where the server gave none."""

    number: int
    given_id: str
    name: str


class CallPieces:
    """The calls of one choice of a stream."""

    def __init__(self, choice: int, ids: CallIds) -> None:
        self._choice = choice
        self._ids = ids
        self._begun: dict[int, _Begun] = {}
        self._count = 0

    def piece(self, call: ToolCall, position: int) -> ToolCallPiece:
        """A piece as the client gets it. Raises UpstreamInvalidResponse for one of a call that has no name."""
        key = position if call.index is None else call.index
        begun = self._begun.get(key)
        if begun is None or _is_another(call, begun):
            return self._first(call, key)
        if call.custom is not None:
            return ToolCallPiece(index=begun.number, custom=CustomPiece(input=call.custom.input or ""))
        function = call.function or Function()
        # A server may give the name bit by bit, or again and again.
        more = function.name if function.name and function.name != begun.name else UNSET
        return ToolCallPiece(index=begun.number, function=FunctionPiece(more, function.arguments or ""))

    def _first(self, call: ToolCall, key: int) -> ToolCallPiece:
        number = self._count
        piece = _named(call, self._ids, self._choice, number)
        self._count += 1
        self._begun[key] = _Begun(number, call.id or "", _name(call))
        return msgspec.structs.replace(piece, index=number)


def _is_another(call: ToolCall, begun: _Begun) -> bool:
    """Whether a piece under the same index begins a call of its own. One that has no name goes on, whatever its id is."""
    if not _name(call):
        return False
    return call.id != begun.given_id if call.id else call.index is None and not begun.given_id


def _name(call: ToolCall) -> str:
    named = call.custom or call.function
    return (named.name if named is not None else None) or ""


def _named(call: ToolCall, ids: CallIds, choice: int, number: int) -> ToolCallPiece:
    """A call with its id, its name and what came of its arguments."""
    name = _name(call)
    if not name:
        raise UpstreamInvalidResponse(upstream_status=200)
    kind: Literal["custom", "function"] = "function" if call.custom is None else "custom"
    return ToolCallPiece(
        id=call.id or ids.make(choice, number),
        type=kind,
        function=UNSET
        if call.custom is not None or call.function is None
        else FunctionPiece(name, call.function.arguments or ""),
        custom=UNSET if call.custom is None else CustomPiece(name, call.custom.input or ""),
    )
