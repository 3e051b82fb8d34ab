"""`/openapi.json`: every route of the interface, said as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLResolver, get_resolver
from jsonschema import Draft202012Validator, ValidationError

from chat.decode import decode
from infery_site.errors import ApiError
from tests.described import check, told, validator

BESIDE_DJANGO = {("POST", "/v1/chat/completions"), ("POST", "/v1/files")}


def routes() -> set[tuple[str, str]]:
    """Every method of every address below `/v1/` and `/api/` that Django serves."""
    found = set()
    for resolver in get_resolver().url_patterns:
        if isinstance(resolver, URLResolver) and str(resolver.pattern) in {"v1/", "api/"}:
            for pattern in resolver.url_patterns:
                view: Any = getattr(pattern.callback, "cls", None)
                methods = [name for name in ("get", "post", "put", "patch", "delete") if hasattr(view, name)]
                found |= {(method.upper(), places(f"/{resolver.pattern}{pattern.pattern}")) for method in methods}
    return found


def places(path: str) -> str:
    return "/".join("{}" if part[:1] in {"<", "{"} else part for part in path.split("/"))


def test_every_route_is_told_and_nothing_else():
    told_routes = {(method.upper(), places(path)) for path, methods in told()["paths"].items() for method in methods}
    assert told_routes == routes() | BESIDE_DJANGO


def test_it_is_served_to_everybody_with_the_address_of_the_reader():
    answer = Client().get("/openapi.json")
    assert (answer.status_code, answer["content-type"]) == (200, "application/json")
    document = json.loads(answer.content)
    assert document["servers"] == [{"url": "http://testserver"}]
    assert document["paths"] == json.loads(json.dumps(told()["paths"]))
    assert Client().post("/openapi.json").status_code == 405
    assert Client().options("/openapi.json")["allow"] == "GET, HEAD, OPTIONS"


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    if isinstance(value, dict):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(one)


def test_every_schema_is_one_and_every_name_in_it_is_there():
    names = {f"#/components/schemas/{name}" for name in told()["components"]["schemas"]}
    for part in parts(told()):
        if "schema" in part and "$ref" not in part["schema"]:
            Draft202012Validator.check_schema(part["schema"])
        if str(part.get("$ref", "")).startswith("#/components/schemas/"):
            assert part["$ref"] in names
        if "discriminator" in part:
            assert set(part["discriminator"]["mapping"].values()) == {one["$ref"] for one in part["oneOf"]} <= names
    for schema in told()["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    ids = [operation["operationId"] for methods in told()["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)


def test_generators_of_clients_can_read_it():
    """Each of these made one drop an answer, ask for every field, or merge what are alternatives."""
    for part in parts(told()):
        assert part.get("type") != "array" or "items" in part
        assert "default" not in part or part["default"] is not None or "responses" in part
        assert "discriminator" not in part or "oneOf" in part
        assert not isinstance(part.get("enum"), list) or "type" in part


def test_examples_of_bodies_are_as_their_schemas_say():
    bodies = [
        operation["requestBody"]["content"]["application/json"]["schema"]
        for methods in told()["paths"].values()
        for operation in methods.values()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]
    examples = [body for body in bodies if "example" in body]
    assert len(examples) == len(bodies) - 1  # all but that of a chat request
    for body in examples:
        validator(body).validate(body["example"])
        with pytest.raises(ValidationError):
            validator(body).validate({**body["example"], "unheard_of": 1})


HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "look"}}


@pytest.mark.parametrize(
    ("fields", "is_good"),
    [
        ({}, True),
        ({"store": True, "of_tomorrow": 1, "temperature": None}, True),
        ({"messages": []}, False),
        ({"messages": [{"role": "nobody", "content": "Hello"}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello", "more": 1}]}]}, True),
        ({"temperature": 3}, False),
        ({"model": ""}, False),
        ({"stop": ["a", "b", "c", "d"]}, True),
        ({"stop": ["a", "b", "c", "d", "e"]}, False),
        ({"stop": ""}, False),
        ({"tools": [TOOL], "tool_choice": "required"}, True),
        ({"tools": [TOOL], "tool_choice": "odd"}, False),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "look"}}}, True),
        ({"functions": [TOOL["function"]], "function_call": "auto"}, True),
        ({"functions": [TOOL["function"]], "function_call": "required"}, False),
        ({"modalities": ["text"]}, True),
        ({"modalities": ["text", "audio"]}, False),
        ({"response_format": {"type": "json_object"}}, True),
        ({"response_format": {"type": "yaml"}}, False),
    ],
)
def test_a_chat_request_is_judged_as_the_gateway_does(fields, is_good):
    body = {"model": "m", "messages": HELLO, **fields}
    try:
        decode(json.dumps(body).encode(), is_strict=False)
    except ApiError:
        is_taken = False
    else:
        is_taken = True
    assert (is_taken, validator({"$ref": "#/components/schemas/ChatRequest"}).is_valid(body)) == (is_good, is_good)


def test_an_answer_that_is_not_as_told_is_found_out():
    empty = {"object": "credits", "balance": 1, "held": 0, "available": 1, "next_expiry": None}
    with pytest.raises(AssertionError, match="buckets"):
        check("GET", "/v1/credits", 200, "application/json", json.dumps(empty).encode())
    with pytest.raises(AssertionError, match="text/html"):
        check("GET", "/v1/credits", 200, "text/html", b"")
    more = {"id": "file_1", "object": "file", "deleted": True, "unheard_of": 1}
    with pytest.raises(AssertionError, match="unheard_of"):
        check("DELETE", "/v1/files/file_1", 200, "application/json", json.dumps(more).encode())
    assert not check("GET", "/v1/nothing", 200, "application/json", b"{}")
