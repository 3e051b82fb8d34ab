"""What the decoder refused, as an answer: status, code, `param` and a message that names the field and the limit.

The decoder says what it met and where (`$.messages[0].content`); one table gives the code where the contract asks for a
special one, and what is expected there. A failure of syntax is told by line and column. Nothing of the body stands in a
message beyond 64 characters, and each answer costs at most a few passes over the body.
"""

from __future__ import annotations

import codecs
import itertools
import re
from typing import NamedTuple

import msgspec

from chat.errors import InvalidRequest
from infery_site.errors import quoted

MAX_LOCATED_BYTES = 4 * 1024 * 1024
MAX_LOCATED_TOKENS = 100_000
MAX_PATH_LENGTH = 128


class _Field(NamedTuple):
    """`code` for whatever is wrong with a field, and what it must be."""

    code: str
    expected: str


_PARAMETERS = _Field("invalid_function_parameters", "a JSON Schema object")
_TOOL_NAME = _Field("invalid_value", "1 to 64 letters, digits, hyphens or underscores")
_TOOLS = _Field("invalid_value", "a list of 1 to 128 tools")
_IMAGE_URL = _Field("invalid_type", "a text: a base64 data: URI or an http(s) URL")

_FIELDS = {
    "model": _Field("invalid_type", "a string of 1 to 256 characters"),
    "messages[].role": _Field("invalid_value", "one of system, developer, user, assistant, tool, function"),
    "messages[].content": _Field("invalid_type", "a string or a list of content parts"),
    "messages[].content[].type": _Field("invalid_value", "one of text, image_url, input_audio, file, refusal"),
    "messages[].content[].image_url.url": _IMAGE_URL,
    "messages[].content[].image_url.detail": _Field("invalid_value", "one of low, high, auto, original"),
    "messages[].content[].input_audio.data": _Field("invalid_audio", "the audio in base64"),
    "messages[].content[].input_audio.format": _Field("invalid_audio", "one of wav, mp3, pcm16, webm"),
    "messages[].tool_call_id": _Field("invalid_value", "the id of a tool call in an earlier assistant message"),
    "messages[].tool_calls[].type": _Field("invalid_value", "one of function, custom"),
    "messages[].tool_calls[].function.arguments": _Field("invalid_type", "a string that holds JSON"),
    "stop": _Field("invalid_value", "a string, or a list of 1 to 4 strings, of at most 4096 bytes each"),
    "logit_bias": _Field("invalid_value", "an object of token ids, each with a number from -100 to 100"),
    "tools": _TOOLS,
    "tools[].type": _Field("invalid_value", "one of function, custom"),
    "tools[].function.name": _TOOL_NAME,
    "tools[].function.parameters": _PARAMETERS,
    "tools[].custom.name": _TOOL_NAME,
    "functions": _TOOLS,
    "functions[].name": _TOOL_NAME,
    "functions[].parameters": _PARAMETERS,
    "tool_choice.type": _Field("invalid_value", "one of function, custom, allowed_tools"),
    "response_format.type": _Field("invalid_value", "one of text, json_object, json_schema"),
    "response_format.json_schema": _Field("invalid_value", "an object with a name and a schema"),
    "response_format.json_schema.name": _TOOL_NAME,
    "response_format.json_schema.schema": _Field("invalid_value", "a JSON Schema object"),
    "reasoning_effort": _Field("invalid_value", "one of none, minimal, low, medium, high, xhigh, max"),
    "verbosity": _Field("invalid_value", "one of low, medium, high"),
    "modalities[]": _Field("invalid_value", "one of text, audio"),
    "user": _Field("invalid_value", "a string of at most 65536 characters"),
    "prompt_cache_key": _Field("invalid_value", "a string of at most 65536 characters"),
    "safety_identifier": _Field("invalid_value", "a string of at most 128 characters"),
}
_PARAMS = {
    "stop[]": "stop",
    "messages[].content[].image_url": "messages[].content[].image_url.url",
    "messages[].content[].input_audio": "messages[].content[].input_audio.data",
}
"""A fault of the left is answered as one of the right, which is the same path longer or shorter."""

_TYPES = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}

_MISSING = "missing_required_parameter"
_FAILURES = [
    (re.compile(pattern, re.DOTALL), code, expected)
    for pattern, code, expected in (
        (r"(?:Integer value|Number) out of range", "invalid_json", "has a number that is too large to read"),
        (r"Object missing required field", _MISSING, "is required"),
        (r"Expected `[^`]+`, got `null`", _MISSING, "is required"),
        (r"Expected `str` of length >=", _MISSING, "is required"),
        (r"Expected `str` of length <= (\d+)", "invalid_value", "must have at most {} characters"),
        (r"Expected `array` of length >=", "empty_array", "must not be empty"),
        (r"Expected `array` of length <= (\d+)", "array_above_max_length", "must have at most {} items"),
        (r"Expected `(?:int|float)` >= (\S+?)(?:\.0)?$", "out_of_range", "must be at least {}"),
        (r"Expected `(?:int|float)` <= (\S+?)(?:\.0)?$", "out_of_range", "must be at most {}"),
        (r"Expected `([^`]+)`", "invalid_type", "must be {}"),
        (r"", "invalid_value", "has a value that is not allowed"),
    )
]
"""What the decoder says, the code, and what is then said of the field: the first match counts."""

_FIRM = frozenset({"invalid_json", "empty_array", "array_above_max_length"})
"""Codes that hold whatever the field."""

_ABSENT = re.compile(r"Object missing required field `(\w+)`")
_GOT = re.compile(r"Expected `[^`]+`, got `(\w+)`|Invalid (?:enum )?value '(.*)'", re.DOTALL)
_OFFSET = re.compile(r"JSON is malformed: (.*) \(byte (\d+)\)")
_SURROGATES = frozenset(
    {"invalid utf-16 surrogate pair", "unexpected end of escaped utf-16 surrogate pair", "unexpected end of hex escape"}
)
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)


def fault(body: bytes, error: Exception) -> InvalidRequest:
    """The answer to a body that the decoder refused with `error`."""
    if isinstance(error, msgspec.ValidationError) and not body.lstrip().startswith(b"{"):
        error = _fault_of_syntax(body) or error
    if isinstance(error, RecursionError):
        return InvalidRequest("json_too_deep", "The request body is nested too deeply.")
    if isinstance(error, msgspec.ValidationError):
        return _invalid_field(str(error))
    if isinstance(error, UnicodeDecodeError) or not _is_utf8(body):
        return InvalidRequest("invalid_encoding", "The request body must be UTF-8, without a byte order mark.")
    return _malformed(body, str(error))


def _fault_of_syntax(body: bytes) -> Exception | None:
    """What makes the body no JSON at all: of a list, the decoder looks at the first byte only."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        return error
    return None


def _is_utf8(body: bytes) -> bool:
    if body.startswith(codecs.BOM_UTF8) or b"\0" in body[:4]:
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _malformed(body: bytes, text: str) -> InvalidRequest:
    if not body.strip():
        return InvalidRequest("invalid_json", "The request body is empty.")
    found = _OFFSET.match(text) or _near_end(body)
    reason, offset = (found[1], min(int(found[2]), len(body))) if found else ("it ends too early", len(body))
    line_start = body.rfind(b"\n", 0, offset) + 1
    line = body.count(b"\n", 0, offset) + 1
    column = len(body[line_start:offset].decode(errors="replace")) + 1
    place = f"(line {line}, column {column})"
    if reason in _SURROGATES:
        param = _path_at(body, offset)
        return InvalidRequest("invalid_unicode", f"{_subject(param)} has half of a surrogate pair {place}.", param)
    return InvalidRequest("invalid_json", f"The request body is not valid JSON: {reason} {place}.")


def _near_end(body: bytes) -> re.Match[str] | None:
    """The decoder takes half a surrogate pair in the last bytes of a whole body for a body that was cut; white space tells."""
    try:
        msgspec.json.decode(body + b" " * 16, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        found = _OFFSET.match(str(error))
        return found if found and found[1] in _SURROGATES and body.rstrip().endswith(b"}") else None
    except RecursionError:
        return None
    return None


def _path_at(body: bytes, offset: int) -> str | None:
    """The path of the value that has the byte at `offset`, or None where that takes long; up to there the JSON is valid.

    Names in it are the caller's, so a long path ends early.
    """
    if offset > MAX_LOCATED_BYTES:
        return None
    path: list[str | int | None] = []
    for count, token in enumerate(_TOKEN.finditer(body)):
        if token.end() >= offset:
            break
        if count == MAX_LOCATED_TOKENS:
            return None
        mark = token[0]
        if mark == b"{":
            path.append(None)
        elif mark == b"[":
            path.append(0)
        elif mark in b"]}":
            path.pop()
        elif mark == b",":
            last = path[-1]
            path[-1] = last + 1 if isinstance(last, int) else None
        elif path[-1] is None:
            path[-1] = quoted(msgspec.json.decode(mark))[1:-1]
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in path if step is not None]
    shown = list(itertools.takewhile(lambda upto: len(upto) <= MAX_PATH_LENGTH, itertools.accumulate(steps)))
    return shown[-1].removeprefix(".") if shown else None


def _invalid_field(text: str) -> InvalidRequest:
    what, separator, where = text.rpartition(" - at `")
    if not separator:
        what, where = text, ""
    path, is_inside, _ = where.rstrip("`").removeprefix("$").removeprefix(".").partition("[...]")
    if absent := _ABSENT.match(what):
        path = f"{path}.{absent[1]}".removeprefix(".")
    pattern = re.sub(r"\[\d+\]", "[]", path)
    if alias := _PARAMS.get(pattern):
        path = path + alias[len(pattern) :] if alias.startswith(pattern) else alias
        pattern = alias
    code, expected = _judged(pattern, what)
    if not (is_inside or alias or code in _FIRM or code == _MISSING) and (got := _GOT.match(what)):
        expected = f"{expected}, not {_met(got)}"
    subject = f"A value in {_subject(path)}" if is_inside and pattern not in _FIELDS else _subject(path)
    return InvalidRequest(code, f"{subject} {expected}.", path or None)


def _judged(pattern: str, what: str) -> tuple[str, str]:
    """The code, and what is to be said of the field after its name."""
    if not pattern:
        return "invalid_type", "must be a JSON object"
    code, expected = next((code, _filled(text, match)) for regex, code, text in _FAILURES if (match := regex.match(what)))
    field = _FIELDS.get(pattern)
    if field and code not in _FIRM and not (code == _MISSING and pattern == "model"):
        code, expected = field.code, f"must be {field.expected}"
    return code, expected


def _filled(text: str, match: re.Match[str]) -> str:
    if not match.groups():
        return text
    names = [_TYPES.get(name, name) for name in match[1].split(" | ") if name != "null"]
    return text.format(" or ".join(names))


def _met(got: re.Match[str]) -> str:
    if got[1]:
        return "a decimal number" if got[1] == "float" else _TYPES.get(got[1], got[1])
    return quoted(got[2])


def _subject(path: str | None) -> str:
    return f"'{path}'" if path else "The request body"
