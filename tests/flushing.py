"""How the tables are emptied after a transactional test, although the ledger's rows may not be deleted, and quickly.

The ledger's triggers refuse to delete rows, so each flush steps around them: PostgreSQL by the role that ordinary triggers
and foreign keys ignore, for that one transaction; SQLite by taking the triggers away and making them again.

Django would empty the tables of content types and permissions as well and fill them again, which takes longer than the rest
of most tests. They are left as they are, unless a test has changed them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management.sql import emit_post_migrate_signal
from django.db import connection, transaction

KEPT = ("django_content_type", "auth_permission")


@contextlib.contextmanager
def flushing_quickly(kept: list[Any]) -> Iterator[None]:
    """While this is entered, of the database that the tests of this process share; `kept` is what `kept_rows()` gave before."""
    operations = type(connection.ops)
    execute = operations.execute_sql_flush
    are_kept = False

    def execute_quickly(self: Any, statements: list[str]) -> None:
        nonlocal are_kept
        are_kept = kept_rows() == kept
        tables = [table for table in _tables_of(statements) if not (are_kept and table in KEPT)]
        with transaction.atomic():
            _lock(tables)
            before, after = _around_triggers(full := _not_empty(tables))
            execute(self, [*before, *(f'DELETE FROM "{table}"' for table in full), *after])  # noqa: S608

    def emit_unless_kept(*arguments: Any, **options: Any) -> None:
        nonlocal kept
        if not are_kept:
            emit_post_migrate_signal(*arguments, **options)
            kept = kept_rows()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "execute_sql_flush", execute_quickly)
        patch.setattr("django.core.management.commands.flush.emit_post_migrate_signal", emit_unless_kept)
        yield


def _tables_of(statements: list[str]) -> list[str]:
    """Which tables Django would empty. Refuses statements that do something else besides, such as to reset sequences."""
    for statement in statements:
        assert re.fullmatch(r'(DELETE FROM|TRUNCATE) "\w+"(, "\w+")*;', statement), statement
    return re.findall(r'"(\w+)"', " ".join(statements))


def kept_rows() -> list[Any]:
    """Of the tables that are left as they are."""
    with connection.cursor() as cursor:
        return [cursor.execute(f'SELECT * FROM "{table}" ORDER BY id').fetchall() for table in KEPT]  # noqa: S608


def _lock(tables: list[str]) -> None:
    """Waits for whoever still writes: a thread that a test left behind. On SQLite the transaction itself does."""
    if connection.vendor == "postgresql":
        names = ", ".join([f'"{table}"' for table in tables])
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")


def _not_empty(tables: list[str]) -> list[str]:
    """Most tests fill a few of a hundred tables."""
    questions = (f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM \"{table}\")" for table in tables)  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(questions))
        return [table for (table,) in cursor.fetchall()]


def _around_triggers(tables: list[str]) -> tuple[list[str], list[str]]:
    """Statements to run before and after these tables are emptied, in one transaction."""
    if connection.vendor == "postgresql":
        return ["SET LOCAL session_replication_role = replica"], []
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, sql, tbl_name FROM sqlite_master WHERE type = 'trigger'")
        triggers = [(name, sql) for name, sql, table in cursor.fetchall() if table in tables]
    return [f'DROP TRIGGER "{name}"' for name, _ in triggers], [sql for _, sql in triggers]
