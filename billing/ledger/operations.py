"""What can be asked of the ledger, and what it answers (pure).

Amounts are microcredits. Each operation is idempotent: asked again, after a crash of the connection say, it returns what
it returned the first time.
"""

from __future__ import annotations

from typing import Final

import msgspec

from billing.pricing import MAX_MICROCREDITS, Line, Usage

END_STATE_EXPIRED: Final = "expired"
"""The end state of a request whose hold had expired before it was settled, however it ended otherwise."""


END_USER_LENGTH: Final = 128
"""Of the caller's name for his own user, so many characters are kept."""


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The usage record of one request, less what the ledger itself decides (charge and overrun).

    `lines` sum to what the request cost; when the charge is less, the ledger adds an `overrun` line of the difference.
    """

    generation: str
    request_id: str
    workspace_id: int
    api_key_id: int
    model_asked: str
    status: int
    end_state: str
    is_stream: bool
    latency_ms: int
    model_used: str = ""
    provider: str = ""
    price_version_id: int | None = None
    usage: Usage = Usage()
    usage_source: str = ""
    lines: tuple[Line, ...] = ()
    error_code: str = ""
    finish_reason: str = ""
    fallback_depth: int = 0
    first_token_ms: int | None = None
    end_user: str = ""


class TraceRecord(msgspec.Struct, frozen=True):
    """Attempts, adaptations and timings of one request, as JSON text (kept 30 days)."""

    generation: str
    attempts_json: str
    adaptations_json: str
    timings_ms_json: str


class HoldOperation(msgspec.Struct, frozen=True, kw_only=True):
    """Reserve `amount_microcredits` for a generation.

    Amount zero takes no hold; key, workspace and budgets are still checked. A further hold of the same generation takes
    the next `sequence`.
    """

    generation: str
    sequence: int
    workspace_id: int
    account_id: int
    api_key_id: int
    amount_microcredits: int
    price_version_id: int
    lease_s: float


class SettleOperation(msgspec.Struct, frozen=True, kw_only=True):
    """Close all holds of a generation: charge `actual_microcredits`, at most `most_microcredits` and what is held; release the rest.

    The usage record is written in the same transaction. `actual_microcredits` 0 voids. A generation without holds (quote
    of zero) leaves its record only. What a hold that expired meanwhile would have paid is overrun, and so is what goes beyond
    `most_microcredits`: holds made for a dearer step may cover more than the one that served can cost.
    """

    account_id: int
    actual_microcredits: int
    record: RequestRecord
    most_microcredits: int = MAX_MICROCREDITS
    trace: TraceRecord | None = None

    @property
    def generation(self) -> str:
        return self.record.generation


class NoteOperation(msgspec.Struct, frozen=True):
    """Keep the record of a request that was refused before any hold."""

    record: RequestRecord
    trace: TraceRecord | None = None


class Held(msgspec.Struct, frozen=True):
    """The hold is open. `available_microcredits` is what the workspace could still hold after it."""

    amount_microcredits: int
    available_microcredits: int


class HoldRefused(msgspec.Struct, frozen=True):
    """Nothing was reserved. `reason` is `key`, `expired`, `workspace`, `budget`, `credits`, or `closed` (the generation)."""

    reason: str
    needed_microcredits: int = 0
    available_microcredits: int = 0
    held_microcredits: int = 0
    limit_microcredits: int = 0
    scope: str = ""


class Settled(msgspec.Struct, frozen=True):
    charged_microcredits: int
    overrun_microcredits: int


Operation = HoldOperation | SettleOperation | NoteOperation
Result = Held | HoldRefused | Settled | None
