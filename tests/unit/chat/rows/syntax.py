"""Rows 36 to 47: bodies that are not the JSON they should be. Each is (id, body, code, param)."""

from __future__ import annotations

from tests.unit.chat.rows.bodies import HELLO, body, nested, part, raw, said, schema_format

DEEP = "[" * 100_000 + "]" * 100_000
PARAMETERS = "tools[0].function.parameters"
SCHEMA = "response_format.json_schema.schema"

SYNTAX = [
    ("row-36-empty", b"", "invalid_json", None),
    ("row-36-blank", b" \n", "invalid_json", None),
    ("row-37-cut", body()[:-1], "invalid_json", None),
    ("row-37-trailing-comma", raw('"n":1,'), "invalid_json", None),
    ("row-37-single-quotes", b"{'model': 'm'}", "invalid_json", None),
    ("row-37-comment", raw('"n":1 // one\n'), "invalid_json", None),
    ("row-37-two-documents", body() + body(), "invalid_json", None),
    ("row-37-cut-in-a-surrogate-pair", b'{"model": "\\ud83d', "invalid_json", None),
    ("row-38-list", b"[]", "invalid_type", None),
    ("row-38-text", b'"x"', "invalid_type", None),
    ("row-38-number", b"1", "invalid_type", None),
    ("row-38-null", b"null", "invalid_type", None),
    ("row-39-nan", raw('"temperature":NaN'), "invalid_json", None),
    ("row-39-infinity", raw('"temperature":Infinity'), "invalid_json", None),
    ("row-39-minus-infinity", raw('"top_p":-Infinity'), "invalid_json", None),
    ("row-39-1e400", raw('"temperature":1e400'), "invalid_json", "temperature"),
    (
        "row-39-1e400-in-a-schema",
        raw('"tools":[{"type":"function","function":{"name":"a","parameters":{"a":1e400}}}]'),
        "invalid_json",
        PARAMETERS,
    ),
    ("row-39-nan-in-an-unknown-field", raw('"x":[NaN]'), "invalid_json", None),
    ("row-41-list", raw(f'"x":{DEEP}'), "json_too_deep", None),
    (
        "row-41-in-a-message",
        b'{"model":"m","messages":[{"role":"user","content":"a","x":' + DEEP.encode() + b"}]}",
        "json_too_deep",
        None,
    ),
    (
        "row-41-in-a-tool",
        raw(f'"tools":[{{"type":"function","function":{{"name":"a","parameters":{{"a":{DEEP}}}}}}}]'),
        "json_too_deep",
        None,
    ),
    ("row-41-objects-never-closed", raw('"x":' + '{"a":' * 100_000), "json_too_deep", None),
    ("row-41-schema-of-33-levels", schema_format(schema=nested(33)), "json_too_deep", SCHEMA),
    ("row-42-integer", raw('"n":' + "1" * 4301), "invalid_json", "n"),
    ("row-42-number", raw('"temperature":' + "1" * 4301), "invalid_json", "temperature"),
    ("row-43-invalid", raw('"user":"\xff"').replace(b"\xc3\xbf", b"\xff"), "invalid_encoding", None),
    ("row-43-overlong", raw('"user":"?"').replace(b"?", b"\xc0\x80"), "invalid_encoding", None),
    ("row-43-encoded-surrogate", raw('"user":"?"').replace(b"?", b"\xed\xa0\x80"), "invalid_encoding", None),
    ("row-43-unknown-value", raw('"x":"?"').replace(b"?", b"\xff"), "invalid_encoding", None),
    ("row-43-unknown-name", raw('"?":1').replace(b"?", b"\xff"), "invalid_encoding", None),
    ("row-43-utf-16", body().decode().encode("utf-16"), "invalid_encoding", None),
    ("row-43-utf-16-without-mark", body().decode().encode("utf-16-le"), "invalid_encoding", None),
    ("row-43-byte-order-mark", b"\xef\xbb\xbf" + body(), "invalid_encoding", None),
    ("row-44-user", body(user="\ud800"), "invalid_unicode", "user"),
    ("row-44-low-half", body(user="\udc00 and more"), "invalid_unicode", "user"),
    ("row-44-text-part", part({"type": "text", "text": 'a"\\[\ud800, b'}), "invalid_unicode", "messages[0].content[0].text"),
    (
        "row-44-second-message",
        said({"role": "user", "content": "\ud800\u0041"}, HELLO),
        "invalid_unicode",
        "messages[1].content",
    ),
    ("row-44-unknown-field", raw('"x":{"y":[1,[2],{"z":"\\ud800 "}]}'), "invalid_unicode", "x.y[2].z"),
    (
        "row-44-long-path",
        raw('"x":' + '{"abcdefghi":' * 100 + '"\\ud800 "' + "}" * 100),
        "invalid_unicode",
        "x" + ".abcdefghi" * 12,
    ),
    ("row-44-key", raw('"metadata":{"a":"b","\\ud800 ":"c"}'), "invalid_unicode", "metadata"),
    ("row-45-user", body(user="a\0"), "invalid_unicode", "user"),
    ("row-45-model", body(model="a\0"), "invalid_unicode", "model"),
    ("row-45-safety-identifier", body(safety_identifier="\0"), "invalid_unicode", "safety_identifier"),
    ("row-45-prompt-cache-key", body(prompt_cache_key="\0"), "invalid_unicode", "prompt_cache_key"),
    ("row-45-metadata-key", body(metadata={"\0": "a"}), "invalid_unicode", "metadata"),
    ("row-45-metadata-value", body(metadata={"a": "\0"}), "invalid_unicode", "metadata"),
    ("row-45-name", said({**HELLO, "name": "\0"}), "invalid_unicode", "messages[0].name"),
    ("row-47-api-base", body(api_base="http://a"), "unknown_parameter", "api_base"),
    ("row-47-base-url", body(base_url="http://a"), "unknown_parameter", "base_url"),
    ("row-47-api-key", body(api_key=None), "unknown_parameter", "api_key"),
    ("row-47-extra-headers", body(extra_headers={}), "unknown_parameter", "extra_headers"),
    ("row-47-user-config", body(user_config={}), "unknown_parameter", "user_config"),
]
