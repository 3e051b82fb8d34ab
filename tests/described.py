"""Holds answers against the document of the interface (`chat.openapi`): what is said of their operation and status.

The document leaves answers open, because a later version may say more. Here they are closed: what is not said is a fault.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from chat.openapi.document import document

Validator = Any

_JSON = "application/json"
_FORMATS = FormatChecker()


@_FORMATS.checks("date-time", raises=ValueError)
def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value) is not None


@cache
def told() -> dict[str, Any]:
    return document("https://gateway.example")


def validator(schema: dict[str, Any]) -> Validator:
    return Draft202012Validator({**schema, "components": told()["components"]}, format_checker=_FORMATS)


def of_answer(schema: dict[str, Any]) -> Validator:
    return Draft202012Validator(_closed({**schema, "components": told()["components"]}), format_checker=_FORMATS)


def _closed(schema: Any) -> Any:
    """Every object whose fields are said has no other."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed.setdefault("additionalProperties", False)
    return closed


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Of paths with fewer places for anything first. The name of a model may have slashes."""
    paths = sorted(told()["paths"], key=lambda path: path.count("{"))
    return [
        (re.compile(re.sub(r"{(\w+)}", lambda name: ".+" if name[1] == "model" else "[^/]+", path)), path) for path in paths
    ]


@cache
def _of(path: str, method: str, status: str) -> dict[str, Validator]:
    """By media type."""
    answers = told()["paths"][path][method]["responses"]
    if status not in answers and status[0] == "2":
        raise AssertionError(f"{method} {path}: nothing is said of {status}")
    answer = answers.get(status, told()["components"]["responses"]["Error"])
    return {kind: of_answer(content["schema"]) for kind, content in answer["content"].items()}


def check(method: str, path: str, status: int, content_type: str, body: bytes) -> bool:
    """Whether it is an answer of which something is told; AssertionError if it is another than that."""
    template = next((template for pattern, template in _patterns() if pattern.fullmatch(path)), None)
    if template is None or method.lower() not in told()["paths"][template] or status in {204, 304}:
        return False
    judges, kind = _of(template, method.lower(), str(status)), content_type.partition(";")[0]
    is_file = "application/octet-stream" in judges
    if not is_file and kind not in judges:
        raise AssertionError(f"{method} {template} {status}: nothing is said of {kind}")
    if kind != _JSON or is_file:
        return True
    faults = [f"{fault.json_path}: {fault.message[:300]}" for fault in judges[_JSON].iter_errors(json.loads(body))]
    if faults:
        raise AssertionError(f"{method} {template} {status}: {faults[:5]}")
    return True
