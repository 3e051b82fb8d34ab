"""What crosses between the decider and the engines: the rows a batch locked, and the changes to make (pure).

Row types are read by position, in the order the engines select them. Change types are written by name: each field is a
column, so an engine needs no mapping of its own. All money is microcredits; account and budget changes are differences,
never totals, so that the database can refuse a wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from billing.ledger.operations import Operation, Result


class LedgerDown(Exception):
    """The database cannot be reached or does not take writes now. Whether the batch was committed may be unknown."""


class RowsLocked(LedgerDown):
    """Somebody keeps rows that the batch needs, and did not let go of them in time. The database itself is there."""


class BatchRejected(Exception):
    """The database refused the batch because of what is in it. Nothing was written."""


class Engine(Protocol):
    """One database engine: each batch is one transaction, one batch at a time."""

    async def run(self, operations: Sequence[Operation]) -> list[Result]:
        """The result of each operation, durable. Raises LedgerDown, as RowsLocked where that is why, or BatchRejected."""
        ...

    async def locked(self, account_ids: Sequence[int]) -> set[int]:
        """Those of these accounts that somebody else keeps locked at this moment. Raises LedgerDown."""
        ...

    async def renew(self, generations: Sequence[str], lease_s: float) -> None:
        """Let the open holds of these generations last `lease_s` from now. Raises LedgerDown or BatchRejected."""
        ...

    async def close(self) -> None: ...


class AccountRow(msgspec.Struct, array_like=True, gc=False):
    id: int
    workspace_id: int
    posted: int
    held: int

    @property
    def available(self) -> int:
        return self.posted - self.held


class KeyRow(msgspec.Struct, array_like=True, gc=False):
    """Revocation and expiry are judged by the database's clock. `owner_id` is the member whose key it is.

    `family_id` is the first key of its family, None for that one itself.
    """

    id: int
    workspace_id: int
    is_revoked: bool
    is_expired: bool
    is_workspace_active: bool
    owner_id: int | None = None
    family_id: int | None = None


class BudgetRow(msgspec.Struct, array_like=True, gc=False):
    """`period_started_at` is aware; `spent` belongs to that period, `held` to the holds that are open now."""

    id: int
    scope: str
    scope_id: int
    period: str
    limit: int
    spent: int
    held: int
    period_started_at: datetime


class HoldRow(msgspec.Struct, array_like=True):
    """`id` is None for a hold that this very batch opens."""

    id: int | None
    account_id: int
    generation: str
    sequence: int
    amount: int
    is_open: bool
    budget_ids: list[int]


class RecordRow(msgspec.Struct, array_like=True, gc=False):
    """The usage record of a generation: its presence says that the generation is closed."""

    generation: str
    charged: int
    overrun: int


class Touched(msgspec.Struct, frozen=True):
    """What to lock and read for a batch.

    Budgets are named by scope: a workspace's, as `("key", key)` those of the key's family, and as `("member", key)` those
    of the member whose key it is.
    """

    accounts: list[int]
    keys: list[int]
    scopes: list[tuple[str, int]]
    generations: list[str]


class Rows(msgspec.Struct, array_like=True):
    """Everything the operations of a batch touch, read under the locks of the batch."""

    accounts: list[AccountRow]
    keys: list[KeyRow]
    budgets: list[BudgetRow]
    holds: list[HoldRow]
    records: list[RecordRow]


class AccountChange(msgspec.Struct, gc=False):
    id: int
    posted_change: int
    held_change: int


class BudgetChange(msgspec.Struct, gc=False):
    """`spent_change` applies after the period moved to `period_started_at`, which empties `spent` into `spent_before`."""

    id: int
    spent_change: int
    held_change: int
    period_started_at: datetime


class NewHold(msgspec.Struct, gc=False):
    account_id: int
    api_key_id: int
    generation: str
    sequence: int
    amount_microcredits: int
    price_version_id: int
    budget_ids: str
    lease_expires_at: datetime


class ClosedHold(msgspec.Struct, gc=False):
    id: int
    state: str
    settled_microcredits: int
    overrun_microcredits: int
    usage_source: str


class NewEntry(msgspec.Struct, gc=False):
    """A usage entry: from the workspace's account to revenue."""

    debit_account_id: int
    amount_microcredits: int
    generation: str
    idempotency_key: str
    hold_id: int


class NewRecord(msgspec.Struct, gc=False):
    generation: str
    request_id: str
    workspace_id: int
    api_key_id: int
    model_asked: str
    model_used: str
    provider: str
    price_version_id: int | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    audio_tokens: int
    reasoning_tokens: int
    usage_source: str
    charged_microcredits: int
    overrun_microcredits: int
    lines: str
    is_stream: bool
    status: int
    end_state: str
    error_code: str
    finish_reason: str
    fallback_depth: int
    latency_ms: int
    first_token_ms: int | None
    end_user: str


class NewTrace(msgspec.Struct, gc=False):
    generation: str
    attempts: str
    adaptations: str
    timings_ms: str


class Effects(msgspec.Struct):
    """The changes of one batch, at most one per account, budget and hold, and the result of each operation.

    `notes` are records that give way to one already there; `records` must be new.
    """

    results: list[Result]
    accounts: list[AccountChange]
    budgets: list[BudgetChange]
    new_holds: list[NewHold]
    closed_holds: list[ClosedHold]
    entries: list[NewEntry]
    records: list[NewRecord]
    notes: list[NewRecord]
    traces: list[NewTrace]

    def is_empty(self) -> bool:
        """True if there is nothing to write. Holds and entries never change without their account."""
        return not (self.accounts or self.budgets or self.records or self.notes)
