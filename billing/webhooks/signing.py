"""Signatures as Standard Webhooks has them (pure): HMAC-SHA256 over id, time and body, by the bytes behind `whsec_`.

`X-Infery-Signature` besides is the same over the body alone, in hex, for receivers that know no more.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32


def new_secret() -> str:
    """As it is shown: base64 behind its prefix."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def headers(secret: str, message_id: str, sent_at: int, body: bytes) -> list[tuple[str, str]]:
    """`sent_at` in seconds since 1970; a receiver refuses what is old."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{message_id}.{sent_at}.".encode() + body
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return [
        ("webhook-id", message_id),
        ("webhook-timestamp", str(sent_at)),
        ("webhook-signature", f"v1,{signature}"),
        ("x-infery-signature", hmac.new(key, body, hashlib.sha256).hexdigest()),
    ]
