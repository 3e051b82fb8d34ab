"""The ledger of a live gateway, read past the gateway: plain SQL on a connection of the test's own."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
import psycopg

_RECORD_TIMEOUT_S = 5.0
_RECORD_FIELDS = (
    *("generation", "charged_microcredits", "model_used", "prompt_tokens", "completion_tokens", "usage_source"),
    *("status", "end_state", "error_code", "fallback_depth", "overrun_microcredits", "cached_tokens"),
)
_SESSIONS = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
_RECORD = f"SELECT {', '.join(_RECORD_FIELDS)} FROM billing_usagerecord"  # noqa: S608 - our own names


class Hold(msgspec.Struct, frozen=True):
    sequence: int
    state: str
    amount_microcredits: int
    settled_microcredits: int


class Booked(msgspec.Struct, frozen=True, kw_only=True):
    """What the database knows of one generation. `entries` are the amounts of its usage entries; at most one is right."""

    generation: str
    charged_microcredits: int
    entries: tuple[int, ...]
    holds: tuple[Hold, ...]
    model_used: str
    prompt_tokens: int
    completion_tokens: int
    usage_source: str
    status: int
    end_state: str
    error_code: str
    fallback_depth: int
    overrun_microcredits: int
    cached_tokens: int
    results: tuple[str, ...]
    """How each attempt ended, in order: `served`, or the code of its failure."""

    @property
    def entry_microcredits(self) -> int:
        assert len(self.entries) <= 1, f"{self.generation} was charged twice: {self.entries}"
        return sum(self.entries)

    @property
    def held_microcredits(self) -> int:
        return sum(hold.amount_microcredits for hold in self.holds)

    @property
    def states(self) -> list[str]:
        return [hold.state for hold in self.holds]


class _Database(Protocol):
    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]: ...

    def close(self) -> None: ...


class _Sqlite:
    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query.replace("%s", "?"), values).fetchall()

    def close(self) -> None:
        self._connection.close()


class _Postgres:
    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        self._connection.close()


class Books:
    """Open for as long as the tests run. `url` is empty for SQLite, whose file is `path`."""

    def __init__(self, url: str, path: Path) -> None:
        self._database: _Database = _Postgres(url) if url else _Sqlite(path)

    def close(self) -> None:
        self._database.close()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Of a query of the test's own, with `%s` for each value."""
        return self._database.rows(query, *values)

    def of(self, generation: str) -> Booked:
        """What is booked for the generation whose id is the `id` of its reply."""
        return self._wait_for("generation", generation, lambda booked: True)

    def of_request(self, request_id: str, *, is_over: Callable[[Booked], bool] = lambda _: True) -> Booked:
        """The same by the label of the request, where the reply has no id: of a failure, or of a client that left."""
        return self._wait_for("request_id", request_id, is_over)

    def count(self, request_id: str) -> int:
        """How many records bear the label."""
        return int(self._database.rows("SELECT COUNT(*) FROM billing_usagerecord WHERE request_id = %s", request_id)[0][0])

    def charged_microcredits(self) -> int:
        """What all requests so far were charged."""
        return int(
            self._database.rows("SELECT COALESCE(SUM(amount_microcredits), 0) FROM billing_entry WHERE kind = 'usage'")[0][0]
        )

    def wait_until_gone(self, application: str, *, within_s: float = 30.0) -> None:
        """Until PostgreSQL has done with what a process of that name had sent before it was killed. SQLite is done with it."""
        deadline = time.monotonic() + within_s
        while isinstance(self._database, _Postgres) and self.rows(_SESSIONS, application) != [(0,)]:
            assert time.monotonic() < deadline, "the database is still at work for a process that has ended"
            time.sleep(0.01)

    def count_holds(self, state: str) -> int:
        return int(self._database.rows("SELECT COUNT(*) FROM billing_hold WHERE state = %s", state)[0][0])

    def open_holds(self) -> int:
        return self.count_holds("open")

    def wait_until_none_is_held(self, by_s: float) -> None:
        """Until no hold is open any more, on the monotonic clock."""
        while open_holds := self.open_holds():
            assert time.monotonic() < by_s, f"{open_holds} holds are still open"
            time.sleep(0.02)

    def _wait_for(self, column: str, value: str, is_over: Callable[[Booked], bool]) -> Booked:
        """The answer to a failure may arrive before its record is written."""
        deadline = time.monotonic() + _RECORD_TIMEOUT_S
        while (booked := self._read(column, value)) is None or not is_over(booked):
            assert time.monotonic() < deadline, f"the record of {value} did not come: {booked}"
            time.sleep(0.01)
        return booked

    def _read(self, column: str, value: str) -> Booked | None:
        found = self._database.rows(f"{_RECORD} WHERE {column} = %s", value)
        if not found:
            return None
        assert len(found) == 1, f"{value} names {len(found)} records"
        generation = found[0][0]
        entries = self._database.rows(
            "SELECT amount_microcredits FROM billing_entry WHERE kind = 'usage' AND generation = %s", generation
        )
        holds = self._database.rows(
            "SELECT sequence, state, amount_microcredits, settled_microcredits FROM billing_hold"
            " WHERE generation = %s ORDER BY sequence",
            generation,
        )
        return Booked(
            **dict(zip(_RECORD_FIELDS, found[0], strict=True)),
            entries=tuple(amount for (amount,) in entries),
            holds=tuple(Hold(*row) for row in holds),
            results=self._results(generation),
        )

    def _results(self, generation: str) -> tuple[str, ...]:
        found = self._database.rows("SELECT attempts FROM billing_requesttrace WHERE generation = %s", generation)
        if not found:
            return ()
        attempts = json.loads(found[0][0]) if isinstance(found[0][0], str) else found[0][0]
        return tuple(attempt["result"] for attempt in attempts)
