"""JSON Schemas as Gemini takes them: `parametersJsonSchema` and `responseJsonSchema` know a part of JSON Schema.

What is not known there is ignored, which is harmless as the answer is checked here, with four exceptions: a `$ref` with
other words beside it is refused with a 400, `definitions` cannot be pointed to, and without `const` or `allOf` of one schema
a union loses what tells its members apart.
"""

from __future__ import annotations

from typing import Any

_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LITERALS = frozenset({"const", "default", "enum", "examples"})
_OLD_PLACE, _NEW_PLACE = "#/definitions/", "#/$defs/"


def fitted(schema: Any) -> Any:
    """The schema, written with the words that Gemini knows. The one given is not changed."""
    if isinstance(schema, list):
        return [fitted(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    words: dict[str, Any] = {}
    for word, value in schema.items():
        if word in _LITERALS:
            words[word] = value
        elif word in _MAPS and isinstance(value, dict):
            words["$defs" if word == "definitions" else word] = {name: fitted(one) for name, one in value.items()}
        else:
            words[word] = fitted(value)
    return _without_siblings(_with_known_words(words))


def _with_known_words(words: dict[str, Any]) -> dict[str, Any]:
    constant = words.get("const")
    if isinstance(constant, str | int | float) and not isinstance(constant, bool) and "enum" not in words:
        words["enum"] = [words.pop("const")]
    every = words.get("allOf")
    if isinstance(every, list) and len(every) == 1 and "anyOf" not in words:
        words["anyOf"] = words.pop("allOf")
    return words


def _without_siblings(words: dict[str, Any]) -> dict[str, Any]:
    reference = words.get("$ref")
    if not isinstance(reference, str):
        return words
    if reference.startswith(_OLD_PLACE):
        words["$ref"] = _NEW_PLACE + reference.removeprefix(_OLD_PLACE)
    if "anyOf" in words or all(word.startswith("$") for word in words):
        return words
    return {"anyOf": [{"$ref": words.pop("$ref")}], **words}
