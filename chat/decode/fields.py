"""Top-level fields by name and size: what is not forwarded, what is never accepted, and what is too large to read.

A field may be unknown (ignored and listed), known but not forwarded (checked, ignored and listed), not offered (refused)
or dangerous (refused always: it could redirect a call or carry credentials). Nothing here looks inside a known field.
"""

from __future__ import annotations

import msgspec

from chat.errors import InvalidRequest, UnsupportedParameter
from chat.schema.request import ChatRequest, NotForwarded
from infery_site.errors import ApiError, quoted

REDIRECTING = frozenset({"api_base", "base_url", "api_key", "extra_headers", "user_config"})
NOT_OFFERED = {
    "audio": "Audio output is not offered by this gateway.",
    "web_search_options": "Web search is not offered by this gateway.",
}
MAX_UNKNOWN_BYTES = 1024 * 1024
MAX_IGNORED_NAMES = 128

_KNOWN = frozenset(ChatRequest.__struct_fields__)
_NOT_FORWARDED = frozenset(NotForwarded.__struct_fields__)
_MAX_BYTES = {
    "metadata": ("invalid_value", 64 * 1024),
    "logit_bias": ("invalid_value", 64 * 1024),
    "tool_choice": ("invalid_value", 64 * 1024),
    "response_format": ("invalid_value", 128 * 1024),
    "tools": ("invalid_function_parameters", 1024 * 1024),
    "functions": ("invalid_function_parameters", 1024 * 1024),
}
_NULL = b"null"

_Outline = msgspec.defstruct("_Outline", [(name, msgspec.Raw, msgspec.Raw(b"")) for name in ChatRequest.__struct_fields__])
_OUTLINE = msgspec.json.Decoder(_Outline)
_BY_NAME = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CHECKED = msgspec.json.Decoder(NotForwarded)


def check_sizes(body: bytes) -> None:
    """Refuse a large body whose small fields are large, before any of them is built as objects.

    A million members cost half a second as a dictionary and ten milliseconds to skip.
    """
    outline = _OUTLINE.decode(body)
    sizes = {name: len(_bytes_of(outline, name)) for name in ChatRequest.__struct_fields__}
    for name, (code, limit) in _MAX_BYTES.items():
        if sizes[name] > limit:
            raise InvalidRequest(code, f"'{name}' may take at most {limit // 1024} KB.", name)
    if len(body) - sum(sizes.values()) > MAX_UNKNOWN_BYTES:
        message = f"Fields that the gateway does not know take more than {MAX_UNKNOWN_BYTES // 1024} KB of the request body."
        raise ApiError(413, "request_too_large", message)


def _bytes_of(outline: msgspec.Struct, name: str) -> memoryview:
    """The value of a field as it stands in the body, without a copy."""
    raw: msgspec.Raw = getattr(outline, name)
    return memoryview(raw)


def known_part(body: bytes, *, is_strict: bool) -> tuple[bytes, tuple[str, ...]]:
    """The body with only the fields of ChatRequest, and the names of the others, fit to be shown and stored.

    A null counts as absent. Raises InvalidRequest for a dangerous name and, under `is_strict`, for any other unknown one;
    UnsupportedParameter for what is not offered; msgspec.ValidationError where a field that is not forwarded is ill-typed.
    """
    by_name = _BY_NAME.decode(body)
    others = [
        name for name, raw in by_name.items() if name not in _KNOWN and _is_ignored(name, memoryview(raw), is_strict=is_strict)
    ]
    if not _NOT_FORWARDED.isdisjoint(others):
        _CHECKED.decode(msgspec.json.encode({name: by_name[name] for name in others if name in _NOT_FORWARDED}))
    ignored = [quoted(name)[1:-1] for name in others[:MAX_IGNORED_NAMES]]
    if len(others) > MAX_IGNORED_NAMES:
        ignored.append(f"{len(others) - MAX_IGNORED_NAMES} more")
    return msgspec.json.encode({name: raw for name, raw in by_name.items() if name in _KNOWN}), tuple(ignored)


def _is_ignored(name: str, value: memoryview, *, is_strict: bool) -> bool:
    """Whether an unknown field says anything; raises where that must not be ignored."""
    if name in REDIRECTING:
        message = f"'{name}' is not accepted: where a request goes and with which credentials is not for its body to say."
        raise InvalidRequest("unknown_parameter", message, name)
    if value == _NULL:
        return False
    if name in NOT_OFFERED:
        raise UnsupportedParameter(name, NOT_OFFERED[name])
    if is_strict:
        raise _strict_refusal(name)
    str(value, "utf-8")
    return True


def _strict_refusal(name: str) -> InvalidRequest:
    if name in _NOT_FORWARDED:
        return UnsupportedParameter(name, f"'{name}' is not forwarded by this gateway, and x-strict forbids to ignore it.")
    message = f"There is no parameter {quoted(name)}, and x-strict forbids to ignore it."
    return InvalidRequest("unknown_parameter", message, quoted(name)[1:-1])
