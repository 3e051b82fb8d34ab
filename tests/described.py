"""Holds answers against the document of the interface (`chat.openapi`): what is said of their operation and status."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from chat.openapi.document import document

Validator = Any


@cache
def told() -> dict[str, Any]:
    return document("https://gateway.example")


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Of paths with fewer places for anything first."""
    paths = sorted(told()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"{\w+}", "[^/]+", path)), path) for path in paths]


def validator(schema: dict[str, Any]) -> Validator:
    return Draft202012Validator({**schema, "components": told()["components"]})


@cache
def _of(path: str, method: str, status: str) -> Validator | None:
    """None where the answer is no JSON by what is told."""
    answers = told()["paths"][path][method]["responses"]
    if status not in answers and status[0] == "2":
        raise AssertionError(f"{method} {path}: nothing is said of {status}")
    answer = answers.get(status, told()["components"]["responses"]["Error"])
    content = answer["content"].get("application/json")
    return None if content is None else validator(content["schema"])


def check(method: str, path: str, status: int, content_type: str, body: bytes) -> bool:
    """Whether it is an answer of which something is told; AssertionError if it is another than that."""
    template = next((template for pattern, template in _patterns() if pattern.fullmatch(path)), None)
    if template is None or method.lower() not in told()["paths"][template] or not content_type.startswith("application/json"):
        return False
    judge = _of(template, method.lower(), str(status))
    if judge is None:
        return False
    faults = [f"{fault.json_path}: {fault.message[:300]}" for fault in judge.iter_errors(json.loads(body))]
    if faults:
        raise AssertionError(f"{method} {template} {status}: {faults[:5]}")
    return True
