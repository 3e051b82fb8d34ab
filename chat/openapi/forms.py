"""JSON Schema 2020-12 in short, and one operation of the interface as OpenAPI 3.1 has it (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

Schema = dict[str, Any]

JSON: Final = "application/json"
REFERENCE: Final = "#/components/schemas/{name}"

TEXT: Final[Schema] = {"type": "string"}
WHOLE: Final[Schema] = {"type": "integer"}
FLAG: Final[Schema] = {"type": "boolean"}
MOMENT: Final[Schema] = {"type": "string", "format": "date-time"}
CREDITS: Final[Schema] = {"type": "number", "description": "Credits, to six decimals."}
BINARY: Final[Schema] = {"type": "string", "format": "binary"}

_IN_PATH = re.compile(r"{(\w+)}")


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method at one path. `answers` are schemas by media type, `query` and `headers` what may be sent beside the body."""

    id: str
    method: str
    path: str
    tag: str
    summary: str
    answers: Mapping[str, Schema]
    answer_headers: Mapping[str, str] = {}
    status: int = 200
    body: Schema | None = None
    body_type: str = JSON
    query: Mapping[str, Schema] = {}
    headers: Mapping[str, Schema] = {}
    scopes: tuple[str, ...] = ()
    """The key needs one of them; without any, every key will do."""
    is_public: bool = False


def of(name: str) -> Schema:
    """A schema of the components, by its name."""
    return {"$ref": REFERENCE.format(name=name)}


def just(value: str) -> Schema:
    return {"type": "string", "const": value}


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def list_of(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def shape(fields: Mapping[str, Schema], at_times: Mapping[str, Schema] | None = None) -> Schema:
    """An object that always has these fields, and at times those. A later version may add to an answer, so it is left open."""
    return {"type": "object", "properties": {**fields, **(at_times or {})}, "required": list(fields)}


def either(field: str, schemas: Mapping[str, str]) -> Schema:
    """One of several of the components, by the value of a field."""
    mapping = {value: of(name)["$ref"] for value, name in schemas.items()}
    return {"oneOf": [of(name) for name in schemas.values()], "discriminator": {"propertyName": field, "mapping": mapping}}


def page_of(schema: Schema) -> Schema:
    """A list as OpenAI pages it: go on with `after=last_id` while `has_more`."""
    marks = {"first_id": or_null(TEXT), "last_id": or_null(TEXT), "has_more": FLAG}
    return shape({"object": just("list"), "data": list_of(schema), **marks})


def described(schema: Schema, text: str) -> Schema:
    return {**schema, "description": text}


def written(operation: Operation) -> Schema:
    """As it stands below its path."""
    parameters = [_parameter("path", name, TEXT) for name in _IN_PATH.findall(operation.path)]
    parameters += [_parameter("query", name, schema) for name, schema in operation.query.items()]
    parameters += [_parameter("header", name, schema) for name, schema in operation.headers.items()]
    answer: Schema = {
        "description": "Done.",
        "content": {kind: {"schema": schema} for kind, schema in operation.answers.items()},
    }
    if operation.answer_headers:
        answer["headers"] = headers_of(operation.answer_headers)
    told: Schema = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": {str(operation.status): answer, "default": {"$ref": "#/components/responses/Error"}},
        # With several, each alone is enough.
        "security": [] if operation.is_public else [{"key": [scope]} for scope in operation.scopes] or [{"key": []}],
    }
    if parameters:
        told["parameters"] = parameters
    if operation.body is not None:
        told["requestBody"] = {"required": True, "content": {operation.body_type: {"schema": operation.body}}}
    return told


def headers_of(texts: Mapping[str, str]) -> Schema:
    return {name: {"description": text, "schema": TEXT} for name, text in texts.items()}


def _parameter(place: str, name: str, schema: Schema) -> Schema:
    text = {"description": schema["description"]} if "description" in schema else {}
    return {"name": name, "in": place, "required": place == "path", "schema": schema, **text}
