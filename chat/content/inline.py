"""`data:` URIs and plain base64: their grammar and their bytes. Base64 only, in one piece, without white space."""

from __future__ import annotations

import binascii

from chat.errors import InvalidRequest
from infery_site.errors import ApiError

MAX_BYTES = 20 * 1024 * 1024
MAX_HEADER_LENGTH = 256

_STEP = 1024 * 1024
"""Characters decoded at a time (a multiple of 4), because one call on a whole image would keep every other thread waiting."""


def decode_data_uri(url: str, param: str) -> tuple[str, bytes]:
    """The declared media type, in lower case, and the bytes.

    Raises InvalidRequest `invalid_data_uri` or `invalid_image_url`, 413 above 20 MB.
    """
    scheme = url[:8].partition(":")[0].lower()
    if scheme != "data":
        raise InvalidRequest("invalid_image_url", f"'{param}' must be an http(s) URL or a base64 data: URI.", param)
    comma = url.find(",", 5, MAX_HEADER_LENGTH)
    if comma < 0:
        raise _invalid(param, "has no comma after its media type")
    media_type, *parameters = url[5:comma].lower().split(";")
    if not parameters or parameters[-1] != "base64":
        raise _invalid(param, "must say ';base64' before its comma")
    return media_type, _decoded(url, comma + 1, param, "invalid_data_uri")


def decode_base64(text: str, param: str, *, code: str = "invalid_data_uri") -> bytes:
    """Bytes that stand there as base64 alone. Raises InvalidRequest with `code`, 413 above 20 MB."""
    return _decoded(text, 0, param, code)


def _decoded(url: str, start: int, param: str, code: str) -> bytes:
    length = len(url) - start
    if length // 4 * 3 - 2 > MAX_BYTES:
        message = f"'{param}' holds more than {MAX_BYTES // 1024**2} MB."
        raise ApiError(413, "request_too_large", message, param=param)
    if length % 4:
        raise _invalid(param, "is not padded base64, or has other characters in it", code)
    pieces = []
    try:
        for offset in range(start, len(url), _STEP):
            text = url[offset : offset + _STEP]
            if "=" in text[:-2] or (offset + _STEP < len(url) and text.endswith("=")):
                raise _invalid(param, "has padding before its end", code)
            pieces.append(binascii.a2b_base64(text, strict_mode=True))
    except ValueError:
        raise _invalid(param, "has characters that are not base64, such as line breaks", code) from None
    return b"".join(pieces)


def _invalid(param: str, fault: str, code: str = "invalid_data_uri") -> InvalidRequest:
    return InvalidRequest(code, f"The data in '{param}' {fault}.", param)
