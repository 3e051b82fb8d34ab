"""Bodies of chat completions for the rows: a valid one, and ways to spoil it."""

from __future__ import annotations

import json

HELLO = {"role": "user", "content": "hi"}


def body(**fields):
    return json.dumps({"model": "m", "messages": [HELLO], **fields}).encode()


def raw(text):
    """A valid body with one more member as it stands."""
    return body()[:-1] + b"," + text.encode() + b"}"


def said(message, *before):
    return body(messages=[*before, message])


def part(value):
    return said({"role": "user", "content": [value]})


def calling(function):
    return {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}


def tool(**function):
    return {"type": "function", "function": {"name": "look", **function}}


def schema_format(**json_schema):
    return body(response_format={"type": "json_schema", "json_schema": {"name": "answer", **json_schema}})


def nested(levels):
    schema = {}
    for _ in range(levels - 1):
        schema = {"a": schema}
    return schema


def without(name):
    fields = json.loads(body())
    del fields[name]
    return json.dumps(fields).encode()
