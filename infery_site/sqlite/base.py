"""Django's SQLite, where a statement waits for the lock as `patiently` does, for as long as the option `timeout` says."""

from __future__ import annotations

import functools
import sqlite3
from typing import Any

from django.db.backends.sqlite3 import base

from infery_site.sqlite import WAIT_MOST_S, patiently


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> sqlite3.Connection:
        # By SQLite's own wait until it is set up, which is more than statements by a cursor.
        connection: sqlite3.Connection = super().get_new_connection(conn_params)
        connection.execute("PRAGMA busy_timeout = 0")
        return connection

    def create_cursor(self, name: str | None = None) -> Any:
        wait_most_s = self.settings_dict["OPTIONS"].get("timeout", WAIT_MOST_S)
        return self.connection.cursor(factory=functools.partial(PatientCursor, wait_most_s))


class PatientCursor(base.SQLiteCursorWrapper):
    """`executemany` does not wait: outside of a transaction each of its rows is one, so it may have begun."""

    def __init__(self, wait_most_s: float, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._wait_most_s = wait_most_s

    def execute(self, query: str, params: Any = None) -> Any:
        return patiently(functools.partial(super().execute, query, params), self._wait_most_s)
