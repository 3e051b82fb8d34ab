"""API keys: grammar, checksum, look-up, whom a key speaks for, and how keys are made, changed, rolled and ended.

A key is `inf_`, 32 random base62 characters, and the CRC-32 of all that in 6 more. The checksum lets this package, and
scanners of leaked secrets, refuse a mistyped key without a query; the secret is the random part. Only the SHA-256 of a
key is stored, so its text exists once: in what `mint` and `roll` return. It never stands in an exception or a log line.

    grammar     the text of a key
    principal   whom a key speaks for: Principal, `find`, `admitted`
    ring        the keys that one process has seen lately
    watch       the keys of the streams that are open in one process
    terms       what a key may do, as it is asked for; what of it makes sense
    services    mint, update, roll, revoke, each with its audit event

Unknown, revoked and malformed keys are refused by equal bytes. A key never becomes broader than whoever makes or changes
it (`Creator`); commands and staff have no bounds.
"""

from __future__ import annotations

from billing.apikeys.grammar import PREFIX, HeaderValues, digest_of, new_key, parse_authorization
from billing.apikeys.principal import Found, Network, Principal, Refusal, admitted, find, is_expired
from billing.apikeys.ring import KeyRing
from billing.apikeys.services import Overlap, mint, playground_key, revoke, revoke_keys_of, roll, update_key
from billing.apikeys.terms import Creator, KeyChanges, KeyTerms, checked_name, creator_of
from billing.apikeys.watch import KeyWatch
from billing.permissions import MANAGEMENT_SCOPES, SCOPES

__all__ = [
    "MANAGEMENT_SCOPES",
    "PREFIX",
    "SCOPES",
    "Creator",
    "Found",
    "HeaderValues",
    "KeyChanges",
    "KeyRing",
    "KeyTerms",
    "KeyWatch",
    "Network",
    "Overlap",
    "Principal",
    "Refusal",
    "admitted",
    "checked_name",
    "creator_of",
    "digest_of",
    "find",
    "is_expired",
    "mint",
    "new_key",
    "parse_authorization",
    "playground_key",
    "revoke",
    "revoke_keys_of",
    "roll",
    "update_key",
]
