"""Workspaces with credit, and operations on them, for tests of the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, NamedTuple

import psycopg
from django.db import connection

from billing.errors import BudgetExceeded, InsufficientCredits
from billing.ledger.effects import Engine
from billing.ledger.engines import engine_of_django
from billing.ledger.operations import Held, HoldOperation, NoteOperation, RequestRecord, SettleOperation, TraceRecord
from billing.ledger.postgresql import PostgresqlEngine
from billing.ledger.transfers import open_account, top_up
from billing.ledger.writer import LedgerWriter
from billing.models import Account, ApiKey, Budget, Workspace
from billing.pricing import Line, Usage
from infery_site.ids import generation_id

_names = itertools.count()


class Subject(NamedTuple):
    """Row ids of a workspace, its account and one of its keys."""

    workspace_id: int
    account_id: int
    api_key_id: int

    def account(self) -> Account:
        return Account.objects.get(pk=self.account_id)


def open_workspace(amount_microcredits: int = 0, *, name: str = "acme") -> Subject:
    workspace = Workspace.objects.create(name=name)
    account = open_account(workspace)
    if amount_microcredits:
        key = f"first-{workspace.public_id}"
        top_up(workspace, amount_microcredits, idempotency_key=key, actor="tests", reason="opening balance")
    return Subject(workspace.pk, account.pk, new_key(workspace).pk)


def new_key(workspace: Workspace) -> ApiKey:
    name = f"key {next(_names)} of {workspace.public_id}"
    return ApiKey.objects.create(workspace=workspace, name=name, digest=hashlib.sha256(name.encode()).hexdigest(), hint="inf_")


def new_budget(scope: str, scope_id: int, limit_microcredits: int, **fields: Any) -> Budget:
    return Budget.objects.create(scope=scope, scope_id=scope_id, limit_microcredits=limit_microcredits, **fields)


def hold_of(subject: Subject, amount: int, *, generation: str = "", sequence: int = 1, lease_s: float = 90.0) -> HoldOperation:
    return HoldOperation(
        generation=generation or generation_id(),
        sequence=sequence,
        workspace_id=subject.workspace_id,
        account_id=subject.account_id,
        api_key_id=subject.api_key_id,
        amount_microcredits=amount,
        price_version_id=7,
        lease_s=lease_s,
    )


def record_of(subject: Subject, generation: str, *, cost: int = 0, status: int = 200, **fields: Any) -> RequestRecord:
    """A record of a request that cost `cost` in one line."""
    lines = (Line("output", 1, "million_tokens", cost, cost),) if cost else ()
    return RequestRecord(
        **{
            "generation": generation,
            "request_id": f"req-{generation}",
            "workspace_id": subject.workspace_id,
            "api_key_id": subject.api_key_id,
            "model_asked": "gpt-4o",
            "model_used": "gpt-4o",
            "provider": "openai",
            "price_version_id": 7,
            "usage": Usage(prompt_tokens=3, completion_tokens=2),
            "usage_source": "reported",
            "lines": lines,
            "status": status,
            "end_state": "done" if status < 400 else "error",
            "is_stream": False,
            "latency_ms": 12,
            **fields,
        }
    )


def settle_of(subject: Subject, generation: str, actual: int, **fields: Any) -> SettleOperation:
    record = record_of(subject, generation, cost=actual, **fields)
    trace = TraceRecord(generation, '[{"status": 200}]', '["clamped=max_tokens:9"]', '{"total": 12}')
    return SettleOperation(account_id=subject.account_id, actual_microcredits=actual, record=record, trace=trace)


def note_of(subject: Subject, generation: str, **fields: Any) -> NoteOperation:
    return NoteOperation(record_of(subject, generation, **{"status": 404, "usage_source": "", **fields}))


def with_writer(scenario: Callable[[LedgerWriter], Awaitable[Any]], engine: Engine | None = None) -> Any:
    """Runs the scenario in an event loop of its own, with a writer that is stopped after it."""

    async def main() -> Any:
        writer = LedgerWriter(engine)
        await writer.start()
        try:
            return await scenario(writer)
        finally:
            await writer.stop()

    return asyncio.run(main())


async def admit(writer: LedgerWriter, subject: Subject, amounts: Iterable[int]) -> list[str]:
    """Asks for all these holds at once; the generations that got theirs. Any other answer than 402 is a failure."""
    holds = [hold_of(subject, amount) for amount in amounts]
    answers = await asyncio.gather(*(writer.hold(hold) for hold in holds), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, InsufficientCredits | BudgetExceeded):
            raise answer
    return [hold.generation for hold, answer in zip(holds, answers, strict=True) if isinstance(answer, Held)]


@contextlib.contextmanager
def other_connection() -> Iterator[Any]:
    """A connection beside Django's, in a transaction that is rolled back; on SQLite it keeps every writer out."""
    engine = engine_of_django()
    other: Any
    if isinstance(engine, PostgresqlEngine):
        other = psycopg.connect(**engine.parameters)
    else:
        other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
    try:
        yield other
    finally:
        other.rollback()
        other.close()
