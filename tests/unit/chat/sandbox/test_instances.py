from __future__ import annotations

from typing import Any

import pytest

from chat.sandbox.instances import NoInstanceError, minimal_instance

PERSON: dict[str, Any] = {
    "$defs": {
        "Address": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "zip": {"type": ["null", "string"]}},
            "required": ["city", "zip"],
            "additionalProperties": False,
        }
    },
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 6},
        "age": {"type": "integer", "minimum": 18},
        "kind": {"enum": ["b", "a"]},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        "home": {"$ref": "#/$defs/Address"},
        "nick": {"type": "string"},
    },
    "required": ["name", "age", "kind", "tags", "home"],
}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, "text"),
        (True, "text"),
        ({"type": "string"}, "text"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "string", "format": "date"}, "2026-01-01"),
        ({"type": "integer"}, 0),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "integer", "maximum": -3}, -3),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "integer", "minimum": 3, "multipleOf": 5}, 5),
        ({"type": "number", "minimum": 0.5}, 0.5),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"type": "boolean"}, False),
        ({"type": "null"}, None),
        ({"type": ["null", "integer"]}, 0),
        ({"type": "array", "items": {"type": "integer"}}, []),
        ({"prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 3}, [1, 2, 2]),
        ({"type": "object"}, {}),
        ({"required": ["a"]}, {"a": "text"}),
        ({"required": ["a"], "additionalProperties": {"type": "integer"}}, {"a": 0}),
        ({"const": None}, None),
        ({"enum": [7, 8], "type": "integer"}, 7),
        ({"anyOf": [False, {"type": "integer"}]}, 0),
        ({"oneOf": [{"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"]}]}, {"k": "a"}),
        ({"type": "object", "required": ["k"], "anyOf": [{"properties": {"k": {"const": 1}}}]}, {"k": 1}),
        (
            {"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"required": ["b"]}], "type": "object"},
            {"a": 1, "b": "text"},
        ),
        (PERSON, {"name": "textxx", "age": 18, "kind": "b", "tags": ["text", "text"], "home": {"city": "text", "zip": "text"}}),
    ],
)
def test_smallest_value(schema: object, expected: object) -> None:
    assert minimal_instance(schema) == expected


def test_recursion_ends_at_the_branch_that_refers_to_nothing() -> None:
    node = {
        "type": "object",
        "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["value", "next"],
    }
    assert minimal_instance(node) == {"value": 0, "next": None}


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"$ref": "#"},
        {"$ref": "#/$defs/Missing"},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": 7},
        {"anyOf": [False]},
        {"allOf": [False]},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "string", "minLength": 1_000_000},
        {"type": "array", "minItems": 1_000_000},
        {
            "type": "array",
            "items": {"type": "array", "minItems": 900, "items": {"type": "array", "minItems": 900}},
            "minItems": 900,
        },
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}] * 50}}, "$ref": "#/$defs/a"},
    ],
)
def test_no_small_value(schema: object) -> None:
    with pytest.raises(NoInstanceError):
        minimal_instance(schema)
