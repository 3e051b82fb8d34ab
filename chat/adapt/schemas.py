"""What a JSON Schema asks for, as far as it decides which way it can be asked (pure). Nothing in it is resolved or run."""

from __future__ import annotations

from typing import Any

_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LITERALS = frozenset({"const", "default", "enum", "examples"})
_SAID_ELSEWHERE = ("$ref", "anyOf", "oneOf", "allOf", "const", "enum")


def has_free_object(schema: Any) -> bool:
    """Whether an object anywhere in the schema may have members that it does not name.

    An object that names members and is silent about others does not count: OpenAI's strict schemas have only closed objects,
    so that whoever lists members means those.
    """
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending += node
        elif isinstance(node, dict):
            if _is_free(node):
                return True
            for word, value in node.items():
                if word in _MAPS and isinstance(value, dict):
                    pending += value.values()
                elif word not in _LITERALS:
                    pending.append(value)
    return False


def _is_free(node: dict[str, Any]) -> bool:
    others = node.get("additionalProperties")
    if others is True or isinstance(others, dict) or node.get("patternProperties"):
        return True
    kind = node.get("type")
    is_object = kind == "object" or (isinstance(kind, list) and "object" in kind)
    names_members = bool(node.get("properties")) or any(word in node for word in _SAID_ELSEWHERE)
    return is_object and not names_members and others is not False
