"""What each message to a webhook tells, for who writes a receiver: when it comes, and what its `data` has besides EVERY.

The documentation shows this table, and tests compare it with what is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from billing.models import Notice
from billing.webhooks.deliveries import TEST

Kind = Notice.Kind


class Event(NamedTuple):
    """`data` says what stands in each field."""

    when: str
    data: Mapping[str, str]


EVERY: Final = {"workspace_id": "the workspace it is about", "title": "one line for people"}

_KEY: Final = {
    "id": "of the key",
    "name": "its name",
    "hint": "its first and last characters",
    "actor": "who did it",
}
_SPENT: Final = {
    "scope": "workspace, member or key",
    "id": "of what it limits",
    "name": "of what it limits",
    "period": "day, week, month or never",
    "percent": "the share that was reached",
    "spent_credits": "in the running period",
    "limit_credits": "of a period",
}

EVENTS: Final[dict[str, Event]] = {
    Kind.CREDITS_LOW: Event(
        "The balance fell below a threshold.",
        {"balance_credits": "what is left", "threshold_credits": "below which it fell"},
    ),
    Kind.CREDITS_EXPIRING: Event(
        "Credit expires soon.",
        {"left_credits": "what is left of it", "expires_at": "the moment", "kind": "what it came as"},
    ),
    Kind.CREDITS_ADDED: Event(
        "Credit came: a top-up, a grant, a code.",
        {
            "credits": "how many",
            "kind": "what they came as",
            "entry": "number of the entry in the ledger",
            "expires_at": "a moment, or null for never",
        },
    ),
    Kind.PAYMENT_FAILED: Event(
        "A payment did not succeed.",
        {
            "id": "of the payment",
            "credits": "what was to be bought",
            "origin": "checkout or auto",
            "is_auto_off": "whether auto top-up is off now",
        },
    ),
    Kind.BUDGET_REACHED: Event("A budget of the workspace or a member is at a share of its limit.", _SPENT),
    Kind.KEY_LIMIT: Event("A key is at a share of its limit.", _SPENT),
    Kind.QUOTA_REACHED: Event(
        "What is kept in files is at a share of its quota.",
        {
            "quota": "files for their number, storage for their bytes",
            "percent": "the share that was reached",
            "used": "files or bytes",
            "limit": "files or bytes",
        },
    ),
    Kind.FALLBACK_RATE: Event(
        "Many answers came from another model than the first of their chain.",
        {
            "percent": "their share, whole",
            "threshold_percent": "the share at which this is told",
            "requests": "how many were answered",
            "fallbacks": "how many of them by a fallback",
            "minutes": "within which",
        },
    ),
    Kind.MODEL_DEPRECATED: Event(
        "A model that the workspace used lately is deprecated soon, or from today on.",
        {
            "model": "its id",
            "deprecated_on": "the day (UTC) from which on it may be gone",
            "days_left": "until that day; 0 if it has come",
        },
    ),
    Kind.KEY_CREATED: Event("A key was made, also by rolling another.", _KEY),
    Kind.KEY_REVOKED: Event("A key was revoked.", _KEY),
    Kind.WEBHOOK_DISABLED: Event(
        "A webhook was disabled: nothing is sent to it until it is enabled again.",
        {"id": "of the webhook", "url": "its address"},
    ),
    TEST: Event("Somebody asked for a test in the console; it is sent once.", {}),
}
