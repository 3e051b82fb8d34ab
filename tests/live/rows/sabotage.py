"""Trouble in the database of an installation, made on a connection beside the gateway's own and taken back afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from tests.live.gateway import Installation


@contextmanager
def locked_ledger(installation: Installation) -> Iterator[None]:
    """Somebody else's transaction keeps the accounts; on SQLite the whole file."""
    with _connection(installation) as connection:
        if installation.database_url:
            connection.execute("BEGIN")
            connection.execute("LOCK TABLE billing_account IN EXCLUSIVE MODE")
        else:
            connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


@contextmanager
def refused_inserts(installation: Installation, table: str) -> Iterator[None]:
    """The database takes no row for `table`, as if what the gateway writes broke a rule that nobody thought of."""
    with _connection(installation) as connection:
        if installation.database_url:
            connection.execute(
                "CREATE FUNCTION sabotage() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END $$"
            )
            connection.execute(f"CREATE TRIGGER sabotage BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION sabotage()")
        else:
            connection.execute(f"CREATE TRIGGER sabotage BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END")
        try:
            yield
        finally:
            if installation.database_url:
                connection.execute("DROP FUNCTION sabotage CASCADE")
            else:
                connection.execute("DROP TRIGGER sabotage")


def run_sql(installation: Installation, statement: str) -> None:
    """What another process writes meanwhile."""
    with _connection(installation) as connection:
        connection.execute(statement)


def forget_replies(installation: Installation) -> None:
    """As if every process had been killed between the settlement of its request and the keeping of the answer, long ago."""
    run_sql(
        installation,
        "UPDATE billing_idempotentreply SET is_complete = false, body_encrypted = '',"
        " lease_expires_at = '2026-01-01 00:00:00+00:00'",
    )


@contextmanager
def _connection(installation: Installation) -> Iterator[Any]:
    if installation.database_url:
        with psycopg.connect(installation.database_url, autocommit=True) as connection:
            yield connection
    else:
        with closing(sqlite3.connect(installation.sqlite_path, isolation_level=None)) as connection:
            yield connection
