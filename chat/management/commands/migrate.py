"""`manage.py migrate`: Django's own, which keeps no running server waiting, and then gives staff the roles of today.

Who changes a table waits for everybody who reads it, and everybody else who wants to then waits behind. So it waits briefly,
and tries again later: what was migrated so far stays, and a migration that is given up leaves nothing behind. Only what keeps
nobody waiting, an index that is made while rows are written, waits for as long as it takes.

The groups of staff are made equal to the table of their roles here, because a migration cannot do it: the permissions that a
group has are made by Django when all migrations are over.
"""

from __future__ import annotations

import time
from typing import Any, Final

from django.core.management.base import CommandParser
from django.core.management.commands.migrate import Command as Migrate
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.migrations.executor import MigrationExecutor

from billing import roles
from infery_site.patience import short_lock_waits

LOCK_TIMEOUT_S: Final = 1.0  # less than the ledger waits for a row
_LOCKED: Final = {"55P03", "SQLITE_BUSY"}


class Command(Migrate):
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--lock-tries", type=int, default=60, help="how often a table is tried that somebody keeps locked")
        parser.add_argument("--lock-pause", type=float, default=5.0, help="seconds between two tries")

    def handle(self, *args: Any, **options: Any) -> None:
        self._migrate(*args, **options)
        if options["database"] == DEFAULT_DB_ALIAS and _is_complete():
            roles.sync()

    def _migrate(self, *args: Any, **options: Any) -> None:
        connection, pause_s = connections[options["database"]], options["lock_pause"]
        for tries_left in reversed(range(max(1, options["lock_tries"]))):
            try:
                with short_lock_waits(connection, LOCK_TIMEOUT_S):
                    super().handle(*args, **options)
            except OperationalError as error:
                if not tries_left or not _is_locked(error):
                    raise
            else:
                return
            self.stderr.write(
                f"A table is in use by somebody who does not let go of it (see pg_stat_activity). Nothing is lost; "
                f"it is tried again in {pause_s:g} s, {tries_left} times more."
            )
            time.sleep(pause_s)


def _is_locked(error: OperationalError) -> bool:
    cause = error.__cause__
    return getattr(cause, "sqlstate", getattr(cause, "sqlite_errorname", None)) in _LOCKED


def _is_complete() -> bool:
    """False on the way to an older schema, and where migrations were only planned or checked."""
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())
