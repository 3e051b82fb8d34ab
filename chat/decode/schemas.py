"""Bounds on the JSON schemas a request carries: size, depth, no remote reference.

A schema is data here. It is never executed, its patterns are never compiled, its references never followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

MAX_DEPTH = 32
MAX_BYTES = 64 * 1024
TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels"

_SCHEMA_MAPS = ("properties", "$defs", "definitions")
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")


def bounds_fault(schema: dict[str, Any]) -> str | None:
    """What makes a schema unacceptable, to stand after its name in a message, or None. The root is level 1."""
    try:
        encoded = msgspec.json.encode(schema)
    except RecursionError:
        return TOO_DEEP
    if len(encoded) > MAX_BYTES:
        return f"takes more than {MAX_BYTES // 1024} KB"
    # A schema with so few brackets cannot be too deep: most schemas need no walk.
    if encoded.count(b"{") + encoded.count(b"[") <= MAX_DEPTH and b'"$ref"' not in encoded:
        return None
    level: list[Any] = [schema]
    for _ in range(MAX_DEPTH):
        if any(map(_is_remote, level)):
            return "has a '$ref' that does not start with '#'"
        values = [value for node in level for value in (node.values() if isinstance(node, dict) else node)]
        level = [value for value in values if isinstance(value, dict | list)]
        if not level:
            return None
    return TOO_DEEP


def _is_remote(node: object) -> bool:
    reference = node.get("$ref") if isinstance(node, dict) else None
    return isinstance(reference, str) and not reference.startswith("#")


def strict_fault(schema: dict[str, Any]) -> str | None:
    """What breaks the rules of a strict schema: an object at the root, and every object closed with all properties required."""
    if "$ref" not in schema and schema.get("type") != "object":
        return "must have an object at the root when it is strict"
    pending = [schema]
    while pending:
        node = pending.pop()
        if "properties" in node or _is_object(node):
            if node.get("additionalProperties") is not False:
                return "must set 'additionalProperties' to false in every object when it is strict"
            if not _requires_all(node):
                return "must list every property in 'required' when it is strict"
        pending.extend(_subschemas(node))
    return None


def _is_object(node: dict[str, Any]) -> bool:
    kind = node.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind)


def _requires_all(node: dict[str, Any]) -> bool:
    properties, required = node.get("properties", {}), node.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        return False
    return properties.keys() <= {name for name in required if isinstance(name, str)}


def _subschemas(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    candidates: list[Any] = [node.get("items")]
    for keyword in _SCHEMA_MAPS:
        children = node.get(keyword)
        candidates.extend(children.values() if isinstance(children, dict) else ())
    for keyword in _SCHEMA_LISTS:
        children = node.get(keyword)
        candidates.extend(children if isinstance(children, list) else ())
    return (candidate for candidate in candidates if isinstance(candidate, dict))
