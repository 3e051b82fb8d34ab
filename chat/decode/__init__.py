"""The body of a chat completion, from bytes to a valid request: every 400 with its `param`.

The hot path is one typed decode and the rules that look at more than one field. Only a refusal, an unknown top-level
field or a large body costs more:

    fields.py    top-level fields that are not forwarded, and the sizes of a large body before anything is built of it
    unknown.py   unknown fields further down, taken out and named
    rules.py     what the types cannot say: ids, choices, counts, conflicts
    schemas.py   bounds on JSON schemas, which are never executed
    faults.py    the decoder's failure as an answer: code, `param`, message

Pure and synchronous. Whatever the bytes are, nothing but ApiError is raised, within 200 ms for 20 MB. Duplicate keys:
the last one wins. Values of unknown fields are not judged, except for their syntax and encoding.
"""

from __future__ import annotations

import msgspec

from chat.decode.faults import fault
from chat.decode.fields import MAX_IGNORED_NAMES, check_sizes, known_part
from chat.decode.rules import check
from chat.decode.unknown import without_unknown
from chat.schema.request import ChatRequest, DecodedRequest

__all__ = ["decode"]

LARGE_BODY_BYTES = 256 * 1024

_REQUEST = msgspec.json.Decoder(ChatRequest)


def decode(body: bytes, *, is_strict: bool) -> DecodedRequest:
    """The request and the names of fields that are not forwarded; under `is_strict` such a name is a refusal.

    Raises InvalidRequest (400), UnsupportedParameter (400), or a 413 where unknown fields are larger than the gateway reads.
    """
    try:
        if len(body) > LARGE_BODY_BYTES:
            check_sizes(body)
        request, ignored = _request(body, is_strict=is_strict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise fault(body, error) from None
    check(request)
    return DecodedRequest(request, ignored)


def _request(body: bytes, *, is_strict: bool) -> tuple[ChatRequest, tuple[str, ...]]:
    try:
        return _REQUEST.decode(body), ()
    except msgspec.ValidationError as error:
        if not _is_about_unknown(error):
            raise
    known, ignored = known_part(body, is_strict=is_strict)
    try:
        return _REQUEST.decode(known), ignored
    except msgspec.ValidationError as error:
        if not _is_about_unknown(error):
            raise
    known, further = without_unknown(known, is_strict=is_strict)
    return _REQUEST.decode(known), (*ignored, *further[:MAX_IGNORED_NAMES])


def _is_about_unknown(error: msgspec.ValidationError) -> bool:
    return str(error).startswith("Object contains unknown field")
