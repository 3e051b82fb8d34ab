"""The text of a key: how it is made, stored and read from a header."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Container, Sequence

from billing.errors import InvalidApiKey, MissingApiKey
from infery_site.ids import base62, random_base62

PREFIX = "inf_"

_RANDOM_DIGITS = 32
_CHECKSUM_DIGITS = 6
# The pattern has one length only, so a header of any size costs no more than a key.
_AUTHORIZATION = re.compile(rb"Bearer (inf_[0-9A-Za-z]{32})([0-9A-Za-z]{6})")

HeaderValues = Sequence[bytes] | Sequence[str]


def new_key() -> str:
    body = PREFIX + random_base62(_RANDOM_DIGITS)
    return body + base62(zlib.crc32(body.encode()), _CHECKSUM_DIGITS)


def digest_of(key_text: str) -> str:
    """How a key is stored and found."""
    return hashlib.sha256(key_text.encode()).hexdigest()


def parse_authorization(values: HeaderValues, known: Container[str] = ()) -> str:
    """The digest of the key in the values of all `Authorization` headers of a request, without a query.

    Raises MissingApiKey without a header, InvalidApiKey for a second header, any other scheme or form, or a key whose
    checksum is wrong; the digests in `known` are of keys whose checksum was right.
    """
    if not values:
        raise MissingApiKey
    value = values[0]
    match = _AUTHORIZATION.fullmatch(value if isinstance(value, bytes) else value.encode("ascii", "replace"))
    if len(values) > 1 or match is None:
        raise InvalidApiKey
    body, checksum = match.groups()
    digest = hashlib.sha256(body + checksum).hexdigest()
    if digest not in known and base62(zlib.crc32(body), _CHECKSUM_DIGITS).encode() != checksum:
        raise InvalidApiKey
    return digest
