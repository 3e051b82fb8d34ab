"""Secrets at rest: encrypted with a rotatable ring of keys, and bound to the place they were written for.

`settings.FIELD_ENCRYPTION_KEYS` is the ring: the first key encrypts, every key decrypts. To rotate, put a new key in
front, call `rotate` on each stored token, then drop the old key.

A token carries the SHA-256 of its `context`, the identity of its row such as `provider:12`, inside the encrypted part:
a token that was moved to another row does not decrypt there. This module never logs, and its errors name no secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

_CONTEXT_BYTES = hashlib.sha256().digest_size


class SecretError(Exception):
    """A token that no key of the ring opens, or that was written for another context."""


def _fernet(key: str) -> Fernet:
    """A ready Fernet key as it is; any other text hashed into one."""
    try:
        return Fernet(key)
    except ValueError:
        return Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()))


@lru_cache(maxsize=8)
def _ring(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([_fernet(key) for key in keys])


def _current_ring() -> MultiFernet:
    return _ring(tuple(settings.FIELD_ENCRYPTION_KEYS))


def _context_digest(context: str) -> bytes:
    return hashlib.sha256(context.encode()).digest()


def encrypt(plaintext: bytes, *, context: str) -> bytes:
    """A token that only `decrypt` with the same context turns back into `plaintext`."""
    return _current_ring().encrypt(_context_digest(context) + plaintext)


def decrypt(token: bytes | memoryview, *, context: str) -> bytes:
    """The plaintext of a token. Raises SecretError for a foreign, damaged or moved one."""
    try:
        payload = _current_ring().decrypt(bytes(token))
    except InvalidToken:
        raise SecretError("the stored secret does not open with any of the FIELD_ENCRYPTION_KEYS") from None
    if not hmac.compare_digest(payload[:_CONTEXT_BYTES], _context_digest(context)):
        raise SecretError(f"the stored secret was not written for {context}")
    return payload[_CONTEXT_BYTES:]


def rotate(token: bytes | memoryview, *, context: str) -> bytes:
    """The same secret under the first key of the ring."""
    return encrypt(decrypt(token, context=context), context=context)
