"""The ledger's engine on PostgreSQL: one batch, one READ COMMITTED transaction, on one connection in pipeline mode.

Two round trips: lock and read, then write and commit. The accounts and budgets of the batch are locked in the order of
their ids, accounts first; the statement that reads the rest begins after the locks are there and so sees what their
former holders committed. The rows of a hold are guarded by the lock of its account.

psycopg makes the connection; the batch goes through its libpq wrapper (`psycopg.pq`), because five prepared statements
and two waits are all there is, and a cursor for each would double the cost of a small batch. After any error the
connection is given up: the server rolls back, and the next batch connects anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
import psycopg
from psycopg import pq

from billing.ledger.decider import decide, touched
from billing.ledger.effects import (
    AccountRow,
    BatchRejected,
    BudgetRow,
    Effects,
    HoldRow,
    KeyRow,
    LedgerDown,
    NewRecord,
    RecordRow,
    Rows,
    RowsLocked,
)
from billing.ledger.operations import Operation, Result

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 5
BATCH_TIMEOUT_S: Final = 5.0
LOCK_TIMEOUT_S: Final = 2.0  # twice, behind somebody who waits himself, is less than a batch may take

# Classes of SQLSTATE: data exceptions and broken constraints; lost connections and intervention of an operator.
_DATA_ERRORS: Final = {"22", "23"}
_SHUTDOWN_ERRORS: Final = {"08", "57"}
_LOCK_NOT_AVAILABLE: Final = "55P03"

# Every statement of the ledger finds its rows by index. Without statistics yet the planner may think otherwise, and keep
# the plan; compiling plans would cost more than they run.
_SESSION: Final = """
SELECT set_config(name, value, false) FROM (VALUES
  ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('jit', 'off'),
  ('plan_cache_mode', 'force_generic_plan'), ('timezone', 'UTC'), ('lock_timeout', %s), ('synchronous_commit', 'on')
) AS settings(name, value)
"""

_LOCK: Final = """
WITH a AS MATERIALIZED (
  SELECT id, workspace_id, posted_microcredits, held_microcredits FROM billing_account
  WHERE id = ANY(ARRAY(SELECT json_array_elements_text($1::json)::bigint)) AND kind = 'workspace'
  ORDER BY id FOR UPDATE
), b AS MATERIALIZED (
  SELECT id, scope, scope_id, period, limit_microcredits, spent_microcredits, held_microcredits, period_started_at
  FROM billing_budget
  WHERE (SELECT count(*) FROM a) >= 0 AND id = ANY(ARRAY(
    SELECT i.id FROM json_array_elements($2::json) s
    LEFT JOIN billing_apikey k ON s->>0 <> 'workspace' AND k.id = (s->>1)::bigint
    JOIN billing_budget i ON i.scope = s->>0 AND i.scope_id =
      CASE s->>0 WHEN 'workspace' THEN (s->>1)::bigint WHEN 'member' THEN k.owner_id ELSE coalesce(k.family_id, k.id) END))
  ORDER BY id FOR UPDATE
)
SELECT json_build_array(
  (SELECT coalesce(json_agg(json_build_array(id, workspace_id, posted_microcredits, held_microcredits)), '[]') FROM a),
  (SELECT coalesce(json_agg(json_build_array(id, scope, scope_id, period, limit_microcredits, spent_microcredits,
    held_microcredits, period_started_at)), '[]') FROM b))
"""

_READ: Final = """
SELECT json_build_array((
  SELECT coalesce(json_agg(json_build_array(k.id, k.workspace_id, k.revoked_at IS NOT NULL,
    k.expires_at IS NOT NULL AND k.expires_at <= clock_timestamp(), w.state = 'active', k.owner_id, k.family_id)), '[]')
  FROM billing_apikey k JOIN billing_workspace w ON w.id = k.workspace_id
  WHERE k.id = ANY(ARRAY(SELECT json_array_elements_text($1::json)::bigint))
), (
  SELECT coalesce(json_agg(json_build_array(
    id, account_id, generation, sequence, amount_microcredits, state = 'open', budget_ids)), '[]')
  FROM billing_hold WHERE generation = ANY(ARRAY(SELECT json_array_elements_text($2::json)))
), (
  SELECT coalesce(json_agg(json_build_array(generation, charged_microcredits, overrun_microcredits)), '[]')
  FROM billing_usagerecord WHERE generation = ANY(ARRAY(SELECT json_array_elements_text($2::json)))
), clock_timestamp())
"""

_INSERT_RECORDS: Final = f"INSERT INTO billing_usagerecord (created_at, {', '.join(NewRecord.__struct_fields__)})"


def _select_records(parameter: str) -> str:
    columns = ", ".join("lines::jsonb" if name == "lines" else name for name in NewRecord.__struct_fields__)
    return f"""
  SELECT $1::timestamptz, {columns}
  FROM json_to_recordset({parameter}::json) AS r(
    generation text, request_id text, workspace_id bigint, api_key_id bigint, model_asked text, model_used text,
    provider text, price_version_id bigint, prompt_tokens bigint, completion_tokens bigint, cached_tokens bigint,
    cache_write_tokens bigint, audio_tokens bigint, reasoning_tokens bigint, usage_source text,
    charged_microcredits bigint, overrun_microcredits bigint, lines text, is_stream boolean, status smallint,
    end_state text, error_code text, finish_reason text, fallback_depth smallint, latency_ms integer,
    first_token_ms integer, end_user text)"""  # noqa: S608 - column names of our own


# The budget's limit is judged here once more, so that a hold too many would be refused by the database too. The division
# by zero is for a row that is not in the state it was read in: it fails the transaction before COMMIT is reached.
_WRITE: Final = f"""
WITH accounts AS (
  UPDATE billing_account a SET posted_microcredits = a.posted_microcredits + c.posted_change,
    held_microcredits = a.held_microcredits + c.held_change
  FROM json_to_recordset($2::json) AS c(id bigint, posted_change bigint, held_change bigint)
  WHERE a.id = c.id RETURNING 1
), budgets AS (
  UPDATE billing_budget b SET
    spent_before_microcredits = b.spent_before_microcredits
      + CASE WHEN b.period_started_at < c.period_started_at THEN b.spent_microcredits ELSE 0 END,
    spent_microcredits =
      CASE WHEN b.period_started_at < c.period_started_at THEN 0 ELSE b.spent_microcredits END + c.spent_change,
    held_microcredits = b.held_microcredits + c.held_change,
    period_started_at = greatest(b.period_started_at, c.period_started_at)
  FROM json_to_recordset($3::json)
    AS c(id bigint, spent_change bigint, held_change bigint, period_started_at timestamptz)
  WHERE b.id = c.id AND (c.spent_change + c.held_change <= 0 OR b.limit_microcredits >=
    CASE WHEN b.period_started_at < c.period_started_at THEN 0 ELSE b.spent_microcredits END + c.spent_change
    + b.held_microcredits + c.held_change)
  RETURNING 1
), closed AS (
  UPDATE billing_hold h SET state = c.state, settled_microcredits = c.settled_microcredits,
    overrun_microcredits = c.overrun_microcredits, usage_source = c.usage_source, closed_at = $1::timestamptz
  FROM json_to_recordset($4::json)
    AS c(id bigint, state text, settled_microcredits bigint, overrun_microcredits bigint, usage_source text)
  WHERE h.id = c.id AND h.state = 'open' RETURNING 1
), opened AS (
  INSERT INTO billing_hold (created_at, account_id, api_key_id, generation, sequence, amount_microcredits, price_version_id,
    budget_ids, lease_expires_at, settled_microcredits, overrun_microcredits, state, usage_source)
  SELECT $1::timestamptz, account_id, api_key_id, generation, sequence, amount_microcredits, price_version_id,
    budget_ids::jsonb, lease_expires_at, 0, 0, 'open', ''
  FROM json_to_recordset($5::json) AS n(account_id bigint, api_key_id bigint, generation text, sequence integer,
    amount_microcredits bigint, price_version_id bigint, budget_ids text, lease_expires_at timestamptz)
), entries AS (
  INSERT INTO billing_entry (created_at, credit_account_id, debit_account_id, amount_microcredits, generation,
    idempotency_key, hold_id, kind, actor, reason)
  SELECT $1::timestamptz, (SELECT id FROM billing_account WHERE kind = 'revenue' AND workspace_id IS NULL),
    debit_account_id, amount_microcredits, generation, idempotency_key, hold_id, 'usage', 'gateway', ''
  FROM json_to_recordset($6::json) AS e(debit_account_id bigint, amount_microcredits bigint, generation text,
    idempotency_key text, hold_id bigint)
), records AS (
  {_INSERT_RECORDS} {_select_records("$7")}
), notes AS (
  {_INSERT_RECORDS} {_select_records("$8")}
  ON CONFLICT (generation) DO NOTHING
), traces AS (
  INSERT INTO billing_requesttrace (created_at, generation, attempts, adaptations, timings_ms)
  SELECT $1::timestamptz, generation, attempts::jsonb, adaptations::jsonb, timings_ms::jsonb
  FROM json_to_recordset($9::json) AS t(generation text, attempts text, adaptations text, timings_ms text)
  ON CONFLICT (generation) DO NOTHING
)
SELECT 1 / CASE WHEN (SELECT count(*) FROM accounts) = json_array_length($2::json)
  AND (SELECT count(*) FROM budgets) = json_array_length($3::json)
  AND (SELECT count(*) FROM closed) = json_array_length($4::json) THEN 1 ELSE 0 END
"""  # noqa: S608 - column names of our own

_RENEW: Final = """
UPDATE billing_hold SET lease_expires_at = clock_timestamp() + make_interval(secs => $2::text::double precision)
WHERE generation = ANY(ARRAY(SELECT json_array_elements_text($1::json))) AND state = 'open'
"""

_FREE: Final = """
SELECT coalesce(json_agg(id), '[]') FROM (
  SELECT id FROM billing_account WHERE id = ANY(ARRAY(SELECT json_array_elements_text($1::json)::bigint))
  FOR UPDATE SKIP LOCKED
) f
"""

_BATCH: Final = {b"begin": "BEGIN", b"lock": _LOCK, b"read": _READ, b"write": _WRITE, b"commit": "COMMIT"}
_STATEMENTS: Final = _BATCH | {b"renew": _RENEW, b"free": _FREE}

_encode = msgspec.json.Encoder().encode


class _Locked(msgspec.Struct, array_like=True):
    """What `_LOCK` answers."""

    accounts: list[AccountRow]
    budgets: list[BudgetRow]


class _Seen(msgspec.Struct, array_like=True):
    """What `_READ` answers."""

    keys: list[KeyRow]
    holds: list[HoldRow]
    records: list[RecordRow]
    now: datetime


_decode_locked = msgspec.json.Decoder(_Locked).decode
_decode_seen = msgspec.json.Decoder(_Seen).decode


class _Disconnected(LedgerDown):
    """The connection is gone, not (as far as we know) the server."""


class PostgresqlEngine:
    """See the module. `parameters` are libpq's; a batch that takes longer than `batch_timeout_s` is given up.

    A row that somebody keeps is waited for during `lock_timeout_s`.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        batch_timeout_s: float = BATCH_TIMEOUT_S,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        self.parameters = parameters
        self._lock_timeout = f"{round(lock_timeout_s * 1000)}ms"
        self._batch_timeout_s = batch_timeout_s
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def run(self, operations: Sequence[Operation]) -> list[Result]:
        return await self._twice(lambda pipeline: _transact(pipeline, operations))

    async def locked(self, account_ids: Sequence[int]) -> set[int]:
        free = await self._twice(lambda pipeline: _free(pipeline, account_ids))
        return set(account_ids) - free

    async def renew(self, generations: Sequence[str], lease_s: float) -> None:
        await self._twice(lambda pipeline: _renew(pipeline, generations, lease_s))

    async def _twice(self, work: Callable[[_Pipeline], Awaitable[T]]) -> T:
        """Does the work, which can be done twice: a connection that was idle may have died of a restart since."""
        is_reused = self._connection is not None
        try:
            return await self._once(work)
        except _Disconnected:
            if not is_reused:
                raise
        return await self._once(work)

    async def _once(self, work: Callable[[_Pipeline], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._batch_timeout_s):
                connection = self._connection or await self._connect()
                return await work(_Pipeline(connection.pgconn))
        except BaseException as error:
            # Whatever it was (also a cancellation), what was sent and what was answered no longer match.
            await self.close()
            if isinstance(error, _Refused):
                raise error.as_ledger_error() from error
            if isinstance(error, TimeoutError):
                raise LedgerDown("no answer in time") from error
            if isinstance(error, psycopg.Error | OSError):
                raise _Disconnected(str(error)) from error
            raise

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        parameters = {"connect_timeout": CONNECT_TIMEOUT_S, **self.parameters}
        connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
        self._connection = connection
        await connection.execute(_SESSION, [self._lock_timeout])
        connection.pgconn.nonblocking = 1
        connection.pgconn.enter_pipeline_mode()
        pipeline = _Pipeline(connection.pgconn)
        for name, statement in _STATEMENTS.items():
            pipeline.prepare(name, statement)
        await pipeline.results(len(_STATEMENTS), end=True)
        return connection


async def _transact(pipeline: _Pipeline, operations: Sequence[Operation]) -> list[Result]:
    subjects = touched(operations)
    pipeline.execute(b"begin")
    pipeline.execute(b"lock", _encode(subjects.accounts), _encode(subjects.scopes))
    pipeline.execute(b"read", _encode(subjects.keys), _encode(subjects.generations))
    _, locked_json, seen_json = await pipeline.results(3)
    locked, seen = _decode_locked(locked_json), _decode_seen(seen_json)
    rows = Rows(locked.accounts, seen.keys, locked.budgets, seen.holds, seen.records)
    effects = decide(operations, rows, seen.now)
    if not effects.is_empty():
        _queue_write(pipeline, effects, seen.now)
    pipeline.execute(b"commit")
    await pipeline.results(1 if effects.is_empty() else 2, end=True)
    return effects.results


def _queue_write(pipeline: _Pipeline, effects: Effects, now: datetime) -> None:
    pipeline.execute(
        b"write",
        now.isoformat().encode(),
        _encode(effects.accounts),
        _encode(effects.budgets),
        _encode(effects.closed_holds),
        _encode(effects.new_holds),
        _encode(effects.entries),
        _encode(effects.records),
        _encode(effects.notes),
        _encode(effects.traces),
    )


async def _free(pipeline: _Pipeline, account_ids: Sequence[int]) -> set[int]:
    """Those that can be locked, which they are only while the statement runs."""
    pipeline.execute(b"free", _encode(account_ids))
    [found] = await pipeline.results(1, end=True)
    return set(msgspec.json.decode(found, type=list[int]))


async def _renew(pipeline: _Pipeline, generations: Sequence[str], lease_s: float) -> None:
    pipeline.execute(b"renew", _encode(generations), str(lease_s).encode())
    await pipeline.results(1, end=True)


class _Refused(Exception):
    """The server answered a statement with an error."""

    def __init__(self, result: pq.abc.PGresult) -> None:
        super().__init__(result.get_error_message())
        self._state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()

    def as_ledger_error(self) -> BatchRejected | LedgerDown:
        if self._state[:2] in _DATA_ERRORS:
            return BatchRejected(str(self))
        if self._state == _LOCK_NOT_AVAILABLE:
            return RowsLocked(str(self))
        return _Disconnected(str(self)) if self._state[:2] in _SHUTDOWN_ERRORS else LedgerDown(str(self))


class _Pipeline:
    """Prepared statements in libpq's pipeline mode. Nothing is sent before its results are asked for."""

    def __init__(self, pgconn: pq.abc.PGconn) -> None:
        self._pgconn = pgconn

    def prepare(self, name: bytes, statement: str) -> None:
        self._pgconn.send_prepare(name, statement.encode())

    def execute(self, name: bytes, *parameters: bytes) -> None:
        self._pgconn.send_query_prepared(name, parameters)

    async def results(self, count: int, *, end: bool = False) -> list[bytes]:
        """The first value of the next `count` statements (empty if it has none); with `end`, of the last ones queued.

        Raises _Refused for an error among them.
        """
        pgconn = self._pgconn
        if end:
            pgconn.pipeline_sync()
        else:
            pgconn.send_flush_request()
        loop = asyncio.get_running_loop()
        while pgconn.flush():
            await _happened(loop.add_writer, loop.remove_writer, pgconn.socket)
        values: list[bytes] = []
        is_synchronised = not end
        while len(values) < count or not is_synchronised:
            while pgconn.is_busy():
                await _happened(loop.add_reader, loop.remove_reader, pgconn.socket)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                continue  # The end of one statement's results.
            status = result.status
            if status == pq.ExecStatus.PIPELINE_SYNC:
                is_synchronised = True
            elif status in {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}:
                values.append((result.get_value(0, 0) if result.ntuples else None) or b"")
            else:
                raise _Refused(result)
        return values


async def _happened(add: Callable[..., object], remove: Callable[[int], object], socket: int) -> None:
    """Waits for one event of the socket."""
    event = asyncio.Event()
    add(socket, event.set)
    try:
        await event.wait()
    finally:
        remove(socket)
