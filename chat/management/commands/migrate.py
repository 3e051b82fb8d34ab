"""`manage.py migrate`: Django's own, which then makes the groups of staff equal to the table of their roles.

A migration cannot do it: the permissions that a group has are made by Django when all migrations are over.
"""

from __future__ import annotations

from typing import Any

from django.core.management.commands.migrate import Command as Migrate
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor

from billing import roles


class Command(Migrate):
    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        if options["database"] == DEFAULT_DB_ALIAS and _is_complete():
            roles.sync()


def _is_complete() -> bool:
    """False on the way to an older schema, and where migrations were only planned or checked."""
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())
