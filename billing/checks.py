"""System checks of billing: of its settings, and of the database (`manage.py check --database default`, each `migrate`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from django.apps import AppConfig
from django.core import checks
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from billing import quotas
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


@checks.register()
def platform_limits(**_: Any) -> list[checks.CheckMessage]:
    """Every look-up of a key reads this setting, so what it says wrong would refuse everybody."""
    try:
        quotas.of_platform()
    except msgspec.ValidationError as error:
        return [checks.Error(f"PLATFORM_LIMITS: {error}.", hint="See billing.quotas.Limits.", id="billing.E001")]
    return []
