"""Fields inside messages, tools and formats that nobody knows: taken out, and named.

The types of the request refuse them, so that the hot path pays nothing for looking; only a body that has some comes here.
A null counts as absent. What stands in a schema, in metadata or in the arguments of a call is the caller's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect

from chat.errors import InvalidRequest
from chat.schema.request import AssistantMessage, ChatRequest
from infery_site.errors import ApiError, quoted

MAX_OBJECTS = 50_000
"""Objects are built of everything in the body here: so many take 50 ms."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class _Found:
    """Unknown fields by their pattern, such as `messages[].content[].foo`; the first one that `x-strict` forbids by its path."""

    def __init__(self) -> None:
        self.patterns: dict[str, None] = {}
        self.forbidden = ""
        self.is_in_replay = False

    def add(self, path: str, name: str) -> None:
        shown = quoted(name)[1:-1]
        self.patterns.setdefault(f"{_pattern(path)}.{shown}")
        if not self.is_in_replay:
            self.forbidden = self.forbidden or f"{path}.{shown}"


_Pruner = Callable[[Any, str, _Found], None]


def without_unknown(body: bytes, *, is_strict: bool) -> tuple[bytes, tuple[str, ...]]:
    """A body of known top-level fields without unknown ones further down, and their names, each once.

    Extra keys of a replayed assistant message are named and never refused: they are what some server answered with.
    Raises InvalidRequest under `is_strict` for any other, a 413 where the body has more objects than are read for this.
    """
    if body.count(b"{") > MAX_OBJECTS:
        message = f"A request with fields that the gateway does not know may have at most {MAX_OBJECTS} objects."
        raise ApiError(413, "request_too_large", message)
    value, found = _decode(body), _Found()
    _PRUNE(value, "", found)
    if is_strict and found.forbidden:
        message = f"There is no parameter {quoted(found.forbidden)}, and x-strict forbids to ignore it."
        raise InvalidRequest("unknown_parameter", message, found.forbidden)
    return _encode(value), tuple(found.patterns)


def _pattern(path: str) -> str:
    """The path with its places left open: `messages[3].content` as `messages[].content`."""
    return "".join([character for character in path if not character.isdigit()])


def _pruner_of(kind: inspect.Type) -> _Pruner | None:
    """How values of a type are pruned; None where nothing in them can be unknown."""
    if isinstance(kind, inspect.Metadata):
        return _pruner_of(kind.type)
    if isinstance(kind, inspect.StructType):
        return _of_struct(kind)
    if isinstance(kind, inspect.ListType):
        return _of_list(kind)
    return _of_union(kind) if isinstance(kind, inspect.UnionType) else None


def _of_struct(kind: inspect.StructType) -> _Pruner:
    known = {field.encode_name: _pruner_of(field.type) for field in kind.fields}
    if kind.tag_field:
        known[kind.tag_field] = None
    is_replay = kind.cls is AssistantMessage

    def prune(value: Any, path: str, found: _Found) -> None:
        if not isinstance(value, dict):
            return
        found.is_in_replay |= is_replay
        for name in [name for name in value if name not in known]:
            if value.pop(name) is not None:
                found.add(path, name)
        for name, inner in value.items():
            pruner = known[name]
            if pruner is not None:
                pruner(inner, f"{path}.{name}" if path else name, found)
        found.is_in_replay &= not is_replay

    return prune


def _of_list(kind: inspect.ListType) -> _Pruner | None:
    prune_item = _pruner_of(kind.item_type)
    if prune_item is None:
        return None

    def prune(value: Any, path: str, found: _Found) -> None:
        if isinstance(value, list):
            for place, item in enumerate(value):
                prune_item(item, f"{path}[{place}]", found)

    return prune


def _of_union(kind: inspect.UnionType) -> _Pruner | None:
    """An object is of the struct that its tag names, or of the only one there is; anything else is a list."""
    structs = [part for part in kind.types if isinstance(part, inspect.StructType)]
    tag_field = next((part.tag_field for part in structs if part.tag_field), None)
    by_tag = {part.tag: _of_struct(part) for part in structs}
    lists = [pruner for part in kind.types if (pruner := _pruner_of(part)) and not isinstance(part, inspect.StructType)]
    if not structs and not lists:
        return None

    def prune(value: Any, path: str, found: _Found) -> None:
        if isinstance(value, dict):
            tag = value.get(tag_field) if tag_field else None
            pruner = by_tag.get(tag) if isinstance(tag, str | None) else None
            if pruner is not None:
                pruner(value, path, found)
        elif isinstance(value, list):
            for pruner in lists:
                pruner(value, path, found)

    return prune


_PRUNE = _of_struct(inspect.type_info(ChatRequest))  # type: ignore[arg-type]
