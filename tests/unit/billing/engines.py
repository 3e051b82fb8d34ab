"""Engines of the run under test conditions: counted, impatient, forgetful, locked out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from django.db import connection

from billing.ledger.effects import Engine, LedgerDown
from billing.ledger.engines import engine_of_django
from billing.ledger.operations import Operation, Result
from billing.ledger.postgresql import PostgresqlEngine
from billing.ledger.sqlite import SqliteEngine
from tests.unit.billing.books import other_connection


class CountingEngine:
    """The engine of the run; counts its batches, and notes what it renews."""

    def __init__(self) -> None:
        self.engine = engine_of_django()
        self.batches: list[int] = []
        self.renewals: list[list[str]] = []
        self.began = asyncio.Event()

    async def run(self, operations: Sequence[Operation]) -> list[Result]:
        self.began.set()
        self.batches.append(len(operations))
        return await self.engine.run(operations)

    async def locked(self, account_ids: Sequence[int]) -> set[int]:
        return await self.engine.locked(account_ids)

    async def renew(self, generations: Sequence[str], lease_s: float) -> None:
        self.renewals.append(sorted(generations))
        await self.engine.renew(generations, lease_s)

    async def close(self) -> None:
        await self.engine.close()


class ForgetfulEngine(CountingEngine):
    """Commits, then loses the connection before the answer is there, for its first batches."""

    def __init__(self, lost: int) -> None:
        super().__init__()
        self.lost = lost

    async def run(self, operations: Sequence[Operation]) -> list[Result]:
        results = await super().run(operations)
        if len(self.batches) <= self.lost:
            raise LedgerDown("the answer was lost")
        return results


class CancelledEngine(CountingEngine):
    """What it does is cancelled the first time, by nobody who asked."""

    async def run(self, operations: Sequence[Operation]) -> list[Result]:
        if not self.batches:
            self.batches.append(len(operations))
            raise asyncio.CancelledError
        return await super().run(operations)


class StubbornEngine(CountingEngine):
    """Its database is away, and it says so even when it is cancelled."""

    async def run(self, operations: Sequence[Operation]) -> list[Result]:
        self.batches.append(len(operations))
        self.began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            raise LedgerDown("the database is away") from error
        raise AssertionError("nobody cancelled it")


@contextlib.contextmanager
def locked_account(account_id: int) -> Iterator[None]:
    """Another connection that keeps what the ledger needs to write: the account's row, or on SQLite the file."""
    with other_connection() as other:
        if connection.vendor == "postgresql":
            other.execute("SELECT 1 FROM billing_account WHERE id = %s FOR UPDATE", [account_id])
        yield


def impatient_engine(timeout_s: float) -> Engine:
    """An engine on the test database that soon gives up waiting for it."""
    engine = engine_of_django()
    if isinstance(engine, SqliteEngine):
        return SqliteEngine(str(connection.settings_dict["NAME"]), busy_timeout_s=timeout_s)
    assert isinstance(engine, PostgresqlEngine)
    return PostgresqlEngine(engine.parameters, batch_timeout_s=timeout_s)
