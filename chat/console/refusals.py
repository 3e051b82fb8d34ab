"""Every code with which a request can be refused, read off the classes of refusals themselves.

A class is asked for one of its kind, of sample values, so status, type, headers and words are what callers get. What is
raised by its code alone, without a class, stands in SPOKEN; a test reads the code for one that is in neither.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import msgspec

import billing.errors
import chat.errors
import files.errors
from infery_site.errors import NO_RETRY, ApiError, ContentError, error_type
from infery_site.fetch import errors as fetch_errors

# Imported, so that their classes are there to be found.
ROOMS = (billing.errors, chat.errors, files.errors, fetch_errors)
OWN = {"billing", "chat", "files", "infery_site"}
RETRIED = frozenset({408, 409, 429})
"""What the official SDKs try again, beside every 5xx."""


class _Number(int):
    """Written as N, wherever it stands in a message; as an amount it is one credit."""

    def __format__(self, spec: str) -> str:
        return "N"

    __str__ = __repr__ = lambda self: "N"


_NUMBER = _Number(1_000_000)
_SAMPLES: dict[str, Any] = {"str": "...", "bytes": b"...", "float": 1.0}

# What no class says by itself, or says in words of one request: status and words by code.
SPOKEN: dict[str, tuple[int, str]] = {
    "array_above_max_length": (400, "A list has more items than it may have."),
    "audio_not_supported_by_model": (400, "The model does not take audio."),
    "bad_request": (400, "The request cannot be understood as it was sent."),
    "conflicting_parameters": (400, "Two fields exclude each other."),
    "empty_array": (400, "A list that needs an item has none."),
    "invalid_data_uri": (400, "A data URI is not one."),
    "invalid_encoding": (400, "Base64 or text is broken."),
    "invalid_function_parameters": (400, "The parameters of a tool are no JSON schema."),
    "invalid_json": (400, "The body is not JSON."),
    "invalid_type": (400, "A value is of the wrong type."),
    "invalid_unicode": (400, "The body is not valid UTF-8."),
    "json_too_deep": (400, "JSON is nested too deep."),
    "method_not_allowed": (405, "The address takes another method."),
    "missing_required_parameter": (400, "A field that is needed is missing."),
    "not_acceptable": (406, "The address answers in JSON only."),
    "not_found": (404, "There is no such object here. What is of others is told in the same words."),
    "too_many_images": (400, "There are more images than a request may have."),
    "unknown_url": (404, "There is nothing at this address."),
    "unsupported_charset": (415, "The body must be UTF-8."),
    "unsupported_encoding": (415, "The body must not be compressed."),
    "unsupported_media_type": (415, "The Content-Type is not the one that is expected."),
    "invalid_value": (400, "A value is not one of those that it may have."),
    "model_unavailable": (503, "The model cannot be called at the moment."),
    "permission_denied": (403, "The role or the key does not allow this."),
    "request_too_large": (413, "The body, or what it brings, is larger than it may be."),
    "too_many_pages": (400, "The PDF has more pages than it may have."),
    "unknown_parameter": (400, "A field is not known. In chat it is refused only under x-strict."),
    "unsupported_parameter": (400, "The model cannot do what the field asks for."),
    "internal_error": (500, "The gateway failed. Quote the x-request-id when you report it."),
}


class Refusal(msgspec.Struct, frozen=True):
    """One code at one status. `words` is what a message of it says; `is_retried`: whether an official SDK tries again."""

    status: int
    code: str
    type: str
    words: str
    is_retried: bool


def refusal_classes() -> list[type[ApiError | ContentError]]:
    """All classes of refusals of ours that are loaded, those of the wire and those of content."""
    found: list[type[Any]] = []
    unseen: list[type[Any]] = [ApiError, ContentError]
    while unseen:
        for kind in unseen.pop().__subclasses__():
            if kind not in found and kind.__module__.partition(".")[0] in OWN:
                found.append(kind)
                unseen.append(kind)
    return found


def sample_of(kind: type[Any], number: int = _NUMBER) -> ApiError:
    """One of this class, of whatever values it must be given: this number, and dots for every text."""
    needed = [value for value in inspect.signature(kind).parameters.values() if value.default is value.empty]
    needed = [value for value in needed if value.kind not in {value.VAR_POSITIONAL, value.VAR_KEYWORD}]
    given = {value.name: (_SAMPLES | {"int": number})[str(value.annotation)] for value in needed}
    positional = [given.pop(value.name) for value in needed if value.kind is not value.KEYWORD_ONLY]
    made = kind(*positional, **given)
    return made.at("messages[0].content[1]") if isinstance(made, ContentError) else made


def list_refusals() -> tuple[Refusal, ...]:
    """By status and code, each once."""
    known: dict[tuple[int, str], Refusal] = {}
    for one in _all():
        known.setdefault((one.status, one.code), one)
    return tuple(known[key] for key in sorted(known))


def _all() -> Iterator[Refusal]:
    """What a class says of retries counts before the words that are spoken of its code."""
    for error in map(sample_of, sorted(refusal_classes(), key=lambda kind: (kind.__module__, kind.__qualname__))):
        # A class whose code is given to it has none of its own.
        if error.code not in {"", _SAMPLES["str"]}:
            is_retried = _is_retried(error.status) and NO_RETRY not in error.headers
            words = SPOKEN.get(error.code, (0, ""))
            yield Refusal(
                error.status, error.code, error.type, words[1] if words[0] == error.status else error.message, is_retried
            )
    for code, (status, text) in SPOKEN.items():
        yield Refusal(status, code, error_type(status), text, _is_retried(status))


def _is_retried(status: int) -> bool:
    return status in RETRIED or status >= 500
