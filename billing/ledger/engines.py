"""Which engine writes the ledger: the one for the database that Django uses."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.db import connection

from billing.ledger.effects import Engine
from billing.ledger.postgresql import PostgresqlEngine
from billing.ledger.sqlite import SqliteEngine

# What Django adds to libpq's own parameters.
_DJANGO_PARAMETERS: Final = {"cursor_factory", "context", "prepare_threshold", "server_side_binding"}


def engine_of_django() -> Engine:
    """An engine on the database that Django's default connection uses (in tests, the test database)."""
    if connection.vendor == "postgresql":
        parameters = connection.get_connection_params()
        own = {name: value for name, value in parameters.items() if name not in _DJANGO_PARAMETERS}
        return PostgresqlEngine(own, batch_timeout_s=settings.DATABASE_ANSWER_S)
    return SqliteEngine(str(connection.settings_dict["NAME"]))
