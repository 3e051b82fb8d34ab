"""Receipts: what one generation cost and why, in a form that proves itself.

A receipt is made from the usage record of a generation, its trace and its ledger entry, when it is asked for, and signed
with Ed25519. Nothing is signed that does not add up: the lines, the charge and the entry say the same amount, or there is
no receipt. The same rows give the same bytes; once the trace is no longer kept, attempts, adaptations and timings are null.

What is signed is the canonical form of the receipt without its `signature`: JSON in UTF-8 without white space, keys
sorted, numbers as plain decimals without trailing zeros. That is RFC 8785 for every receipt below a thousand million
credits, so a receipt may be parsed, indented or reordered on its way and still be verified with a library of that
standard. Public keys are JSON Web Keys named by their thumbprint (RFC 7638, RFC 8037).

`settings.RECEIPT_SIGNING_KEYS` is the ring: seeds of 32 bytes in base64; the first signs, all verify. To rotate, put a new
seed in front and keep the old one for as long as old receipts should be verified here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final, NoReturn

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.models import OuterRef, Subquery
from django.db.models.functions import Coalesce

from billing.models import Entry, RequestTrace, UsageRecord
from billing.moments import moment_text
from billing.pricing import credits_text
from infery_site.errors import quoted

OBJECT: Final = "receipt"
ALGORITHM: Final = "Ed25519"
SEED_BYTES: Final = 32

_REFERENCE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Between these powers of ten RFC 8785 writes a number plainly; no receipt has one beyond.
_LEAST_EXPONENT: Final = -6
_MOST_EXPONENT: Final = 20
_MOST_NUMBER_CHARACTERS: Final = 64

# What every receipt has, and every reader of one relies on.
_NAMES: Final = frozenset({"id", "workspace_id", "created_at", "lines", "credits_used", "signature"})

_canonical = msgspec.json.Encoder(order="sorted", decimal_format="number").encode


class BooksDisagree(Exception):
    """The lines of a generation, its charge and its entry are not the same amount. `reconcile_ledger` says more."""


class InvalidReceipt(ValueError):
    """A text that is no receipt, or whose signature does not hold. The message says which, for a person."""


class UnreadableKeys(ValueError):
    """A text that is no list of public keys."""


# Making


def get_receipt(workspace_id: int, reference: str, *, owner_id: int | None = None) -> dict[str, Any] | None:
    """The receipt of a generation: by the id of its reply, or by a request label, then of the newest request that bore it.

    None for what this workspace has not asked, or, of an owner, what no key of his has. Raises BooksDisagree.
    """
    if not _REFERENCE.fullmatch(reference):
        return None
    own = UsageRecord.objects.filter(workspace_id=workspace_id)
    if owner_id is not None:
        own = own.filter(api_key__owner_id=owner_id)
    by_id = Subquery(own.filter(generation=reference).values("pk"))
    newest = Subquery(own.filter(request_id=reference).order_by("-created_at", "-pk").values("pk")[:1])
    trace = RequestTrace.objects.filter(generation=OuterRef("generation"))
    entry = Entry.objects.filter(generation=OuterRef("generation"), kind=Entry.Kind.USAGE)
    record = (
        own.filter(pk=Coalesce(by_id, newest))
        .select_related("workspace", "api_key")
        .annotate(
            attempts=Subquery(trace.values("attempts")),
            adaptations=Subquery(trace.values("adaptations")),
            timings_ms=Subquery(trace.values("timings_ms")),
            entered_microcredits=Coalesce(Subquery(entry.values("amount_microcredits")), 0),
        )
        .first()
    )
    return None if record is None else signed(_content(record))


def _content(record: Any) -> dict[str, Any]:
    """What a receipt says. Empty texts become null: nothing is known, or there was none."""
    charged = record.charged_microcredits
    sums = {charged, record.entered_microcredits, sum(line["amount_microcredits"] for line in record.lines)}
    if len(sums) > 1:
        raise BooksDisagree(f"{record.generation}: {sorted(sums)} microcredits")
    return {
        "object": OBJECT,
        "id": record.generation,
        "request_id": record.request_id,
        "workspace_id": record.workspace.public_id,
        "api_key_id": record.api_key.public_id,
        "created_at": moment_text(record.created_at),
        "model_asked": record.model_asked or None,
        "model_used": record.model_used or None,
        "provider": record.provider or None,
        "fallback_depth": record.fallback_depth,
        "is_stream": record.is_stream,
        "status": record.status,
        "end_state": record.end_state,
        "finish_reason": record.finish_reason or None,
        "error_code": record.error_code or None,
        "usage": {
            "prompt_tokens": record.prompt_tokens,
            "completion_tokens": record.completion_tokens,
            "cached_tokens": record.cached_tokens,
            "cache_write_tokens": record.cache_write_tokens,
            "audio_tokens": record.audio_tokens,
            "reasoning_tokens": record.reasoning_tokens,
        },
        "usage_source": record.usage_source or None,
        "price_version": record.price_version_id,
        "lines": [
            {
                "kind": line["kind"],
                "quantity": line["quantity"],
                "unit": line["unit"],
                "unit_price_credits": _credits(line["unit_price_microcredits"]),
                "amount_credits": _credits(line["amount_microcredits"]),
            }
            for line in record.lines
        ],
        "credits_used": _credits(charged),
        "overrun_credits": _credits(record.overrun_microcredits),
        "attempts": record.attempts,
        "adaptations": record.adaptations,
        "timings_ms": record.timings_ms,
        "latency_ms": record.latency_ms,
        "first_token_ms": record.first_token_ms,
    }


def _credits(amount_microcredits: int) -> Decimal:
    return Decimal(credits_text(amount_microcredits))


# Signing and verifying


def signed(content: dict[str, Any]) -> dict[str, Any]:
    """The content, plain JSON values and Decimals, with its signature."""
    key = _signing_keys()[0]
    value = key.sign(_canonical(_parsed(_canonical(content))))
    signature = {"algorithm": ALGORITHM, "key_id": thumbprint(key.public_key()), "value": _base64url(value)}
    return {**content, "signature": signature}


def verified(document: bytes, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    """The content of a receipt that one of these keys, by id, has signed, amounts as exact numbers. Raises InvalidReceipt."""
    content = _parsed(document)
    if not isinstance(content, dict) or content.get("object") != OBJECT or not content.keys() >= _NAMES:
        raise InvalidReceipt("it is not a receipt")
    signature = content.pop("signature")
    if not isinstance(signature, dict):
        raise InvalidReceipt("it has no signature")
    key_id, value = signature.get("key_id"), signature.get("value")
    if signature.get("algorithm") != ALGORITHM or not isinstance(key_id, str) or not isinstance(value, str):
        raise InvalidReceipt("its signature is not an Ed25519 signature")
    if key_id not in keys:
        raise InvalidReceipt(f"it names the key {quoted(key_id)}, which is not among the known keys")
    try:
        keys[key_id].verify(_from_base64url(value), _canonical(content))
    except (InvalidSignature, ValueError):
        raise InvalidReceipt("its signature does not match its content: one of the two was changed") from None
    return content


def _parsed(document: bytes) -> Any:
    """JSON with exact numbers, of which each has one form. Raises InvalidReceipt, for names that stand twice, too."""
    try:
        return json.loads(
            document,
            parse_int=_number,
            parse_float=_number,
            parse_constant=_refused_constant,
            object_pairs_hook=_object,
        )
    except InvalidReceipt:
        raise
    except (ValueError, RecursionError):
        raise InvalidReceipt("it is not a JSON text") from None


def _number(text: str) -> int | Decimal:
    refusal = InvalidReceipt("it has a number that no receipt has")
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent beyond what the library takes
        raise refusal from None
    if len(text) > _MOST_NUMBER_CHARACTERS or not _LEAST_EXPONENT <= number.adjusted() <= _MOST_EXPONENT:
        raise refusal
    return int(number) if number == number.to_integral_value() else Decimal(format(number, "f").rstrip("0"))


def _refused_constant(text: str) -> NoReturn:
    raise InvalidReceipt(f"{text} is not a number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise InvalidReceipt("a name stands twice in it")
    return content


# Keys


def own_keys() -> dict[str, Ed25519PublicKey]:
    """The public keys of this installation by id, the one that signs first."""
    return {thumbprint(key.public_key()): key.public_key() for key in _signing_keys()}


def key_set() -> dict[str, Any]:
    """The same as a JSON Web Key Set."""
    keys = [{**_web_key(key), "kid": key_id, "use": "sig", "alg": "EdDSA"} for key_id, key in own_keys().items()]
    return {"keys": keys}


def read_key_set(document: bytes) -> dict[str, Ed25519PublicKey]:
    """The keys of a JSON Web Key Set by id; keys of other kinds are passed over. Raises UnreadableKeys."""
    try:
        keys = json.loads(document)["keys"]
        texts = [key["x"] for key in keys if (key["kty"], key.get("crv")) == ("OKP", ALGORITHM)]
        public_keys = [Ed25519PublicKey.from_public_bytes(_from_base64url(text)) for text in texts]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UnreadableKeys("not a JSON Web Key Set, which GET /v1/receipt-keys answers") from None
    return {thumbprint(key): key for key in public_keys}


def thumbprint(key: Ed25519PublicKey) -> str:
    """The id of a key, made from the key itself, so that no list can name it otherwise."""
    return _base64url(hashlib.sha256(_canonical(_web_key(key))).digest())


def _web_key(key: Ed25519PublicKey) -> dict[str, str]:
    return {"kty": "OKP", "crv": ALGORITHM, "x": _base64url(key.public_bytes_raw())}


def _signing_keys() -> tuple[Ed25519PrivateKey, ...]:
    return _read_seeds(tuple(settings.RECEIPT_SIGNING_KEYS))


@lru_cache(maxsize=8)
def _read_seeds(seeds: tuple[str, ...]) -> tuple[Ed25519PrivateKey, ...]:
    try:
        keys = tuple(Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed, validate=True)) for seed in seeds)
    except ValueError:
        keys = ()
    if not keys:
        raise ImproperlyConfigured(f"RECEIPT_SIGNING_KEYS must list seeds of {SEED_BYTES} bytes in base64")
    return keys


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _from_base64url(text: str) -> bytes:
    """Raises ValueError, also for another writing of the same bytes."""
    value = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _base64url(value) != text:
        raise ValueError("not the one writing of these bytes")
    return value
