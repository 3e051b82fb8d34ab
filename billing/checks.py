"""System checks of billing that look into the database: `manage.py check --database default`, and each `migrate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from billing.ledger import triggers


@checks.register(checks.Tags.database)
def ledger_triggers(
    *, app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """Warns where the ledger's triggers are not as listed. Not an error: the migration that mends it must be able to run."""
    warnings: list[checks.CheckMessage] = []
    for alias in databases or ():
        connection = connections[alias]
        if ("billing", "0002_ledger_triggers") not in MigrationRecorder(connection).applied_migrations():
            continue
        if names := triggers.missing(connection):
            warnings.append(
                checks.Warning(
                    f"The database '{alias}' lacks triggers of the ledger: {', '.join(names)}.",
                    hint="Altering a table drops its triggers on SQLite: end that migration with billing.ledger.triggers.install.",
                    id="billing.W001",
                )
            )
    return warnings
