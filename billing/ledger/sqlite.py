"""The ledger's engine on SQLite: one batch, one IMMEDIATE transaction, in a thread of its own.

It owns one connection beside Django's. Processes that share the file take a file lock around the transaction, because
SQLite's own waiting is by sleeping and makes a busy writer wait ten times longer; for Django's writes it asks often.

The interpreter lock is given up at each step of a statement and comes back late when the event loop is busy, so the cost
of a batch must not grow with its steps: all reads are one row of JSON, and rows are written many at a time. `execute` gives
it up four times, `executemany` three, and what begins and ends a transaction here does so once.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from billing.ledger.decider import decide, touched
from billing.ledger.effects import BatchRejected, Effects, LedgerDown, NewHold, NewRecord, Rows
from billing.ledger.operations import Operation, Result
from billing.ledger.thread import WorkThread
from infery_site.sqlite import WAIT_MOST_S, patiently

T = TypeVar("T")

_LOCK_SUFFIX: Final = "-ledger-lock"
_LOCK_POLL_S: Final = 0.0005
# What a batch brought with it; any other error is the database's.
_DATA_ERRORS: Final = (
    *(sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError),
    *(OverflowError, UnicodeError),
)
# Rows are inserted by statements of these sizes, largest first: nearly always by one. Each statement more is a fight with the
# event loop for the interpreter, and a statement once prepared is kept.
_CHUNKS: Final = (64, *range(32, 0, -1))

_READ = """
SELECT '[' || (
  SELECT json_group_array(json_array(a.id, a.workspace_id, a.posted_microcredits, a.held_microcredits))
  FROM json_each(:accounts) j CROSS JOIN billing_account a ON a.id = j.value
  WHERE a.kind = 'workspace'
) || ',' || (
  SELECT json_group_array(json_array(
    k.id, k.workspace_id, json(iif(k.revoked_at IS NULL, 'false', 'true')),
    json(iif(k.expires_at IS NULL OR k.expires_at > :now, 'false', 'true')), json(iif(w.state = 'active', 'true', 'false')),
    k.owner_id, k.family_id))
  FROM json_each(:keys) j
  CROSS JOIN billing_apikey k ON k.id = j.value CROSS JOIN billing_workspace w ON w.id = k.workspace_id
) || ',' || (
  SELECT json_group_array(json_array(
    b.id, b.scope, b.scope_id, b.period, b.limit_microcredits, b.spent_microcredits, b.held_microcredits,
    replace(b.period_started_at, ' ', 'T') || 'Z'))
  FROM json_each(:scopes) j
  CROSS JOIN billing_budget b ON b.scope = json_extract(j.value, '$[0]')
    AND b.scope_id = iif(json_extract(j.value, '$[0]') = 'workspace', json_extract(j.value, '$[1]'),
      (SELECT iif(json_extract(j.value, '$[0]') = 'member', owner_id, coalesce(family_id, id))
       FROM billing_apikey WHERE id = json_extract(j.value, '$[1]')))
) || ',' || (
  SELECT json_group_array(json_array(
    h.id, h.account_id, h.generation, h.sequence, h.amount_microcredits,
    json(iif(h.state = 'open', 'true', 'false')), json(h.budget_ids)))
  FROM json_each(:generations) j CROSS JOIN billing_hold h ON h.generation = j.value
) || ',' || (
  SELECT json_group_array(json_array(u.generation, u.charged_microcredits, u.overrun_microcredits))
  FROM json_each(:generations) j CROSS JOIN billing_usagerecord u ON u.generation = j.value
) || ']', (SELECT id FROM billing_account WHERE kind = 'revenue' AND workspace_id IS NULL)
"""

_CHANGE_ACCOUNTS = """
UPDATE billing_account SET
  posted_microcredits = posted_microcredits + json_extract(j.value, '$.posted_change'),
  held_microcredits = held_microcredits + json_extract(j.value, '$.held_change')
FROM json_each(?) j WHERE billing_account.id = json_extract(j.value, '$.id')
"""

# The limit is judged here once more, so that a hold too many would be refused by the database too.
_CHANGE_BUDGETS = """
UPDATE billing_budget SET
  spent_before_microcredits = spent_before_microcredits + iif(period_started_at < c.started_at, spent_microcredits, 0),
  spent_microcredits = iif(period_started_at < c.started_at, 0, spent_microcredits) + c.spent_change,
  held_microcredits = held_microcredits + c.held_change,
  period_started_at = max(period_started_at, c.started_at)
FROM (
  SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS spent_change,
    json_extract(value, '$[2]') AS held_change, json_extract(value, '$[3]') AS started_at
  FROM json_each(?)
) c
WHERE billing_budget.id = c.id AND (c.spent_change + c.held_change <= 0 OR limit_microcredits >=
  iif(period_started_at < c.started_at, 0, spent_microcredits) + c.spent_change + held_microcredits + c.held_change)
"""

# The plus keeps the index of all open holds out of the plan.
_RENEW = """
UPDATE billing_hold SET lease_expires_at = ? WHERE generation IN (SELECT value FROM json_each(?)) AND +state = 'open'
"""


def _by_size(head: str, row: str, tail: str = "") -> dict[int, str]:
    """A statement over a list of rows, for each chunk size. `?1` is what all rows share, usually the time."""
    return {size: f"{head} {', '.join([row] * size)} {tail}" for size in _CHUNKS}


_RECORD_HEAD = f"""
INSERT INTO billing_usagerecord (created_at, {", ".join(NewRecord.__struct_fields__)}) VALUES
"""  # noqa: S608 - column names of our own
_RECORD_ROW = f"(?1, {', '.join('?' for _ in NewRecord.__struct_fields__)})"

_CLOSE_HOLDS = _by_size(
    """
    UPDATE billing_hold SET state = v.column2, settled_microcredits = v.column3, overrun_microcredits = v.column4,
      usage_source = v.column5, closed_at = ?1
    FROM (VALUES
    """,
    "(?, ?, ?, ?, ?)",
    ") v WHERE billing_hold.id = v.column1 AND state = 'open'",
)
_INSERT_HOLDS = _by_size(
    """
    INSERT INTO billing_hold (created_at, account_id, api_key_id, generation, sequence, amount_microcredits, price_version_id,
      budget_ids, lease_expires_at, settled_microcredits, overrun_microcredits, state, usage_source) VALUES
    """,
    "(?1, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 'open', '')",
)
_INSERT_ENTRIES = _by_size(
    """
    INSERT INTO billing_entry (created_at, credit_account_id, debit_account_id, amount_microcredits, generation,
      idempotency_key, hold_id, kind, actor, reason) VALUES
    """,
    "(?1, ?2, ?, ?, ?, ?, ?, 'usage', 'gateway', '')",
)
_INSERT_RECORDS = _by_size(_RECORD_HEAD, _RECORD_ROW)
_INSERT_NOTES = _by_size(_RECORD_HEAD, _RECORD_ROW, "ON CONFLICT (generation) DO NOTHING")
_INSERT_TRACES = _by_size(
    "INSERT INTO billing_requesttrace (created_at, generation, attempts, adaptations, timings_ms) VALUES",
    "(?1, ?, ?, ?, ?)",
    "ON CONFLICT (generation) DO NOTHING",
)

_encode = msgspec.json.Encoder().encode
_decode_rows = msgspec.json.Decoder(Rows).decode
_values = msgspec.structs.astuple


class SqliteEngine:
    """See the module. `path` is the database file, with the schema in it; a lock is waited for `busy_timeout_s`."""

    def __init__(self, path: str, *, busy_timeout_s: float = WAIT_MOST_S) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._thread = WorkThread("ledger")
        self._connection: sqlite3.Connection | None = None
        self._lock_file: int | None = None

    async def run(self, operations: Sequence[Operation]) -> list[Result]:
        return await self._in_thread(lambda connection: self._transact(connection, operations))

    async def locked(self, account_ids: Sequence[int]) -> set[int]:
        """None: a file has one lock for all."""
        return set()

    async def renew(self, generations: Sequence[str], lease_s: float) -> None:
        await self._in_thread(lambda connection: self._patiently(lambda: _renew(connection, generations, lease_s)))

    async def close(self) -> None:
        await self._thread.do(self._disconnect)
        self._thread.stop()

    async def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._thread.do(lambda: self._do(work))

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._connection or self._connect()
            with self._file_lock():
                return work(connection)
        except _DATA_ERRORS as error:
            raise BatchRejected(str(error)) from error
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            raise LedgerDown(str(error)) from error

    def _transact(self, connection: sqlite3.Connection, operations: Sequence[Operation]) -> list[Result]:
        if connection.in_transaction:  # Which the next line would commit, whatever had become of it.
            raise sqlite3.OperationalError("the last transaction has no end")
        self._patiently(lambda: connection.executescript("BEGIN IMMEDIATE"))
        try:
            now = datetime.now(UTC)
            rows, revenue_id = _read(connection, operations, now)
            effects = decide(operations, rows, now)
            _write(connection, effects, now, revenue_id)
            connection.commit()
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return effects.results

    def _patiently(self, work: Callable[[], T]) -> T:
        return patiently(work, self._busy_timeout_s)

    def _connect(self) -> sqlite3.Connection:
        """Opens the file, which must exist: a ledger that is gone is not replaced by an empty one."""
        uri = f"{Path(self._path).resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=self._busy_timeout_s, isolation_level=None, cached_statements=256)
        self._connection = connection
        # SQLite copies each page that a statement changes, to undo that alone, and beyond 64 KB would write a file.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY", "busy_timeout=0"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        self._lock_file = os.open(f"{self._path}{_LOCK_SUFFIX}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    @contextmanager
    def _file_lock(self) -> Iterator[None]:
        """The turn of this process among those that share the file; OSError when it does not come in time."""
        if self._lock_file is None:
            raise OSError("the ledger's lock file is not open")
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOCK_POLL_S)
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)


def _renew(connection: sqlite3.Connection, generations: Sequence[str], lease_s: float) -> None:
    lease_expires_at = _moment(datetime.now(UTC) + timedelta(seconds=lease_s))
    connection.execute(_RENEW, [lease_expires_at, _encode(generations).decode()])


def _read(connection: sqlite3.Connection, operations: Sequence[Operation], now: datetime) -> tuple[Rows, int]:
    subjects = touched(operations)
    parameters = {
        "accounts": _encode(subjects.accounts).decode(),
        "keys": _encode(subjects.keys).decode(),
        "scopes": _encode(subjects.scopes).decode(),
        "generations": _encode(subjects.generations).decode(),
        "now": _moment(now),
    }
    text, revenue_id = connection.execute(_READ, parameters).fetchone()
    return _decode_rows(text), revenue_id


def _write(connection: sqlite3.Connection, effects: Effects, now: datetime, revenue_id: int) -> None:
    moment = _moment(now)
    if effects.accounts:
        changed = _change(connection, _CHANGE_ACCOUNTS, [_encode(effects.accounts).decode()])
        _expect(changed, effects.accounts)
    if effects.budgets:
        changes = [(b.id, b.spent_change, b.held_change, _moment(b.period_started_at)) for b in effects.budgets]
        _expect(_change(connection, _CHANGE_BUDGETS, [_encode(changes).decode()]), changes)
    if effects.closed_holds:
        closed = _execute(connection, _CLOSE_HOLDS, [moment], [_values(hold) for hold in effects.closed_holds])
        _expect(closed, effects.closed_holds)
    if effects.new_holds:
        _execute(connection, _INSERT_HOLDS, [moment], _hold_values(effects.new_holds))
    if effects.entries:
        _execute(connection, _INSERT_ENTRIES, [moment, revenue_id], [_values(entry) for entry in effects.entries])
    if effects.records:
        _execute(connection, _INSERT_RECORDS, [moment], [_values(record) for record in effects.records])
    if effects.notes:
        _execute(connection, _INSERT_NOTES, [moment], [_values(record) for record in effects.notes])
    if effects.traces:
        _execute(connection, _INSERT_TRACES, [moment], [_values(trace) for trace in effects.traces])


def _hold_values(holds: list[NewHold]) -> list[tuple[Any, ...]]:
    leases: dict[datetime, str] = {}
    for hold in holds:
        if hold.lease_expires_at not in leases:
            leases[hold.lease_expires_at] = _moment(hold.lease_expires_at)
    return [(*_values(hold)[:-1], leases[hold.lease_expires_at]) for hold in holds]


def _execute(connection: sqlite3.Connection, statements: dict[int, str], shared: list[Any], rows: list[tuple[Any, ...]]) -> int:
    """Runs the statement over all rows, in as few chunks as the sizes allow."""
    start, changed = 0, 0
    for size in _CHUNKS:
        while len(rows) - start >= size:
            chunk = rows[start : start + size]
            changed += _change(connection, statements[size], [*shared, *chain.from_iterable(chunk)])
            start += size
    return changed


def _change(connection: sqlite3.Connection, statement: str, values: list[Any]) -> int:
    """Runs the statement and gives the rows it changed."""
    return connection.executemany(statement, (values,)).rowcount


def _expect(changed: int, changes: Sequence[object]) -> None:
    if changed != len(changes):
        raise BatchRejected(f"{len(changes) - changed} of {len(changes)} rows were not in the state they were read in")


def _moment(moment: datetime) -> str:
    """A time as Django keeps it on SQLite."""
    return moment.astimezone(UTC).isoformat(" ", "microseconds")[: len("2026-01-01 00:00:00.000000")]
