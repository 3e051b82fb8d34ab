"""JSON Schema cut to the subset that structured outputs and strict tools take (pure).

The rules are those of the official SDK's own transformer: every object is closed, `oneOf` becomes `anyOf`, a `$ref` stands
alone, few formats and `minItems` of 0 or 1 only. A keyword that the subset lacks goes into the description as text, where
the model may still heed it; the answer is checked against the whole schema afterwards. A schema is data: nothing in it is
resolved or run, and what makes no sense stays for the provider to refuse.

An object that names its members is closed even where the schema is silent about others: OpenAI's own strict schemas have to
say so anyhow. One that takes members of any name would be left with none: `chat.adapt` asks for it in another way.
"""

from __future__ import annotations

from typing import Any

import msgspec

_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"},
)
_KEPT = ("description", "title", "const", "enum")


def subset(schema: Any) -> Any:
    """The schema in the subset. The one given is not changed."""
    if not isinstance(schema, dict):
        return schema
    rest = dict(schema)
    out: dict[str, Any] = {}
    rest.pop("$schema", None)
    definitions = {**_mapping(rest.pop("definitions", None)), **_mapping(rest.pop("$defs", None))}
    if definitions:
        out["$defs"] = {name: subset(one) for name, one in definitions.items()}
    if isinstance(reference := rest.pop("$ref", None), str):
        reference = reference.replace("#/definitions/", "#/$defs/", 1)
        if not rest:
            return {"$ref": reference, **out}
        rest["anyOf"] = [{"$ref": reference}]
    out |= {name: rest.pop(name) for name in _KEPT if name in rest}
    _take_type(rest, out)
    if rest:
        told = ", ".join([f"{name}: {msgspec.json.encode(value).decode()}" for name, value in rest.items()])
        described = f"{out['description']}\n\n" if out.get("description") else ""
        out["description"] = f"{described}{{{told}}}"
    return out


def _take_type(rest: dict[str, Any], out: dict[str, Any]) -> None:
    """Move what says the type from `rest` to `out`: literals, a union, or one type with its keywords."""
    kind = rest.pop("type", None)
    if "enum" in out or "const" in out:
        return
    union = next((name for name in ("anyOf", "oneOf", "allOf") if isinstance(rest.get(name), list)), None)
    if union is not None:
        out["allOf" if union == "allOf" else "anyOf"] = [subset(variant) for variant in rest.pop(union)]
    elif isinstance(kind, list):
        _take_types(kind, rest, out)
    else:
        _take_one_type(kind or _implied(rest), rest, out)


def _implied(rest: dict[str, Any]) -> str | None:
    return "object" if "properties" in rest else "array" if "items" in rest else None


def _take_one_type(kind: str | None, rest: dict[str, Any], out: dict[str, Any]) -> None:
    if kind is not None:
        out["type"] = kind
    if kind == "object":
        _take_object(rest, out)
    elif kind == "array":
        if "items" in rest:
            out["items"] = subset(rest.pop("items"))
        if rest.get("minItems") in (0, 1):
            out["minItems"] = rest.pop("minItems")
    elif kind == "string" and str(rest.get("format")) in _FORMATS:
        out["format"] = rest.pop("format")


def _take_types(kinds: list[Any], rest: dict[str, Any], out: dict[str, Any]) -> None:
    """A list of types is a union of them; the keywords go with the types that are not null."""
    keywords = dict(rest)
    rest.clear()
    out["anyOf"] = [{"type": kind} if kind == "null" else subset({**keywords, "type": kind}) for kind in kinds]


def _take_object(rest: dict[str, Any], out: dict[str, Any]) -> None:
    out["properties"] = {name: subset(one) for name, one in _mapping(rest.pop("properties", None)).items()}
    out["additionalProperties"] = False
    if not isinstance(rest.get("additionalProperties"), dict):
        rest.pop("additionalProperties", None)
    if "required" in rest:
        out["required"] = rest.pop("required")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
