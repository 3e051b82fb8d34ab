"""The smallest value that a JSON schema allows (pure).

For the keywords that structured outputs use: types, enum, const, required, items, anyOf, oneOf, allOf, $ref, and the
bounds of strings, numbers and arrays. `pattern`, `uniqueItems` and conditions are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_DEPTH_LIMIT = 24
_WORK_LIMIT = 20_000
_LENGTH_LIMIT = 1_000

_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "00:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_TYPE_OF_KEYWORD = {
    "properties": "object",
    "required": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minimum": "number",
    "multipleOf": "number",
}


class NoInstanceError(ValueError):
    """The schema allows no value, or none that is small."""


def minimal_instance(schema: object) -> object:
    """A value valid for `schema`. Raises NoInstanceError."""
    return _Builder(schema).build(schema, 0)


class _Builder:
    """Holds the root, which references point into, and how much work is left: a schema is somebody's input."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._work_left = _WORK_LIMIT

    def build(self, schema: object, depth: int) -> Any:
        keywords = self._opened(schema)
        if not isinstance(schema, Mapping):
            return "text"
        schema = keywords
        if depth > _DEPTH_LIMIT:
            raise NoInstanceError("The schema allows no small value.")
        if "$ref" in schema:
            rest = {name: value for name, value in schema.items() if name != "$ref"}
            return self.build({**self._resolve(schema["$ref"]), **rest}, depth + 1)
        if schema.get("allOf"):
            return self.build(self._merged(schema), depth + 1)
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if values:
            return values[0]
        keyword = next((name for name in ("anyOf", "oneOf") if schema.get(name)), None)
        if keyword is not None:
            rest = {name: value for name, value in schema.items() if name != keyword}
            return self._first(rest, schema[keyword], depth + 1)
        return self._of_type(schema, depth)

    def _of_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kinds = sorted(kind, key=lambda name: name == "null")
            return self._first(schema, [{"type": name} for name in kinds], depth + 1)
        if kind is None:
            kind = next((_TYPE_OF_KEYWORD[name] for name in schema if name in _TYPE_OF_KEYWORD), "string")
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind in {"integer", "number"}:
            return _number(schema, is_integer=kind == "integer")
        return {"boolean": False, "null": None}.get(kind, _string(schema))

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        others = schema.get("additionalProperties", True)
        return {name: self.build(properties.get(name, others), depth + 1) for name in schema.get("required") or ()}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems") or []
        count = int(schema.get("minItems") or 0)
        if count > _LENGTH_LIMIT:
            raise NoInstanceError("The schema asks for too long an array.")
        others = schema.get("items", True)
        return [self.build(first[index] if index < len(first) else others, depth + 1) for index in range(count)]

    def _first(self, base: Mapping[str, Any], branches: list[Any], depth: int) -> Any:
        """The value of the first branch that has one. Branches that refer to nothing go first: recursion ends there."""
        for branch in sorted(branches, key=lambda branch: isinstance(branch, Mapping) and "$ref" in branch):
            try:
                return self.build({**base, **self._opened(branch)}, depth)
            except NoInstanceError:
                if self._work_left < 0:
                    raise
        raise NoInstanceError("No branch of the schema allows a small value.")

    def _merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own = {name: value for name, value in schema.items() if name != "allOf"}
        for part in (*(self._opened(branch) for branch in schema["allOf"]), own):
            properties = {**merged.get("properties", {}), **part.get("properties", {})}
            required = [*merged.get("required", ()), *part.get("required", ())]
            merged.update(part)
            if properties:
                merged["properties"] = properties
            if required:
                merged["required"] = list(dict.fromkeys(required))
        return merged

    def _opened(self, schema: object) -> Mapping[str, Any]:
        """`schema` as a mapping. Raises NoInstanceError for `false`, and when the work is used up."""
        keywords: Mapping[str, Any] = schema if isinstance(schema, Mapping) else {}
        self._work_left -= 1 + len(keywords) // 8
        if schema is False or self._work_left < 0:
            raise NoInstanceError("The schema allows no small value.")
        return keywords

    def _resolve(self, reference: object) -> Mapping[str, Any]:
        """The schema that `#`, `#/$defs/Name` or any JSON pointer names."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise NoInstanceError("Only references inside the schema can be followed.")
        value: object = self._root
        for part in reference[1:].split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(value, Mapping) or name not in value:
                raise NoInstanceError("A reference of the schema names nothing.")
            value = value[name]
        if not isinstance(value, Mapping):
            raise NoInstanceError("A reference of the schema names no schema.")
        return value


def _string(schema: Mapping[str, Any]) -> str:
    text = _FORMATS.get(str(schema.get("format")), "text")
    shortest, longest = int(schema.get("minLength") or 0), schema.get("maxLength")
    if shortest > _LENGTH_LIMIT:
        raise NoInstanceError("The schema asks for too long a string.")
    text = text.ljust(shortest, "x")
    return text if longest is None else text[: int(longest)]


def _number(schema: Mapping[str, Any], *, is_integer: bool) -> int | float:
    """Zero if allowed, else the bound nearest to it."""
    step = schema.get("multipleOf") or (1 if is_integer else None)
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    value: float = 0
    if low is not None and value < low:
        value = low
    if above is not None and value <= above:
        value = above + (step or 1)
    if high is not None and value > high:
        value = high
    if below is not None and value >= below:
        value = below - (step or 1)
    if above is not None and below is not None and not above < value < below:
        value = (above + below) / 2
    if step:
        value = (math.floor if value < 0 and low is None else math.ceil)(value / step) * step
    return int(value) if is_integer or float(value).is_integer() else value
