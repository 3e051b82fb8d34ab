"""What a request body may be declared as: JSON in UTF-8, not compressed, at every route that takes one (pure)."""

from __future__ import annotations

from infery_site.errors import ApiError


def check_content_type(content_type: bytes, content_encoding: bytes) -> None:
    """Refuse a body that is declared to be anything but plain JSON in UTF-8 (415)."""
    if content_type == b"application/json" and not content_encoding:
        return
    media_type, *parameters = content_type.lower().split(b";")
    if media_type.strip() != b"application/json":
        raise ApiError(415, "unsupported_media_type", "The Content-Type must be application/json.")
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset" and value.strip().strip(b'"') not in {b"utf-8", b"utf8"}:
            raise ApiError(415, "unsupported_charset", "The charset of the Content-Type must be utf-8.")
    if content_encoding.strip().lower() not in {b"", b"identity"}:
        raise ApiError(415, "unsupported_encoding", "The request body must not be compressed: send no Content-Encoding.")
