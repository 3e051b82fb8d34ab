"""`/openapi.json`: every route of the interface, said as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.urls import URLResolver, get_resolver
from jsonschema import Draft202012Validator, ValidationError

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


def test_every_schema_is_one_and_every_name_in_it_is_there():
    text = json.dumps(told())
    names = {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}
    assert names <= set(told()["components"]["schemas"])
    for schema in told()["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    ids = [operation["operationId"] for methods in told()["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)


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


@pytest.mark.parametrize(
    ("request_body", "is_good"),
    [
        ({"model": "m", "messages": [{"role": "user", "content": "Hello"}]}, True),
        ({"model": "m", "messages": [{"role": "user", "content": "Hello"}], "store": True, "of_tomorrow": 1}, True),
        ({"model": "m", "messages": []}, False),
        ({"model": "m", "messages": [{"role": "nobody", "content": "Hello"}]}, False),
        ({"model": "m", "messages": [{"role": "user", "content": "Hello"}], "temperature": 3}, False),
        ({"messages": [{"role": "user", "content": "Hello"}]}, False),
    ],
)
def test_a_chat_request_is_judged_as_the_gateway_does(request_body, is_good):
    assert validator({"$ref": "#/components/schemas/ChatRequest"}).is_valid(request_body) is is_good


def test_an_answer_that_is_not_as_told_is_found_out():
    good = {"object": "credits", "balance": 1, "held": 0, "available": 1, "next_expiry": None}
    with pytest.raises(AssertionError, match="buckets"):
        check("GET", "/v1/credits", 200, "application/json", json.dumps(good).encode())
    assert not check("GET", "/v1/nothing", 200, "application/json", b"{}")
