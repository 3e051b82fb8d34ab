"""System checks of the catalogue: what staff should know before customers do.

They read the database, so they run with `manage.py check --database default` and with `migrate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import connections

from chat.catalog import provider_key
from chat.models import CatalogModel, Provider


@register(Tags.database)
def check_catalog(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Models that cannot be called, and keys that cannot be read."""
    if "default" not in (databases or ()) or not _has_tables():
        return []
    # `migrate` runs this before it migrates: no column may be read that a migration still has to bring.
    enabled = CatalogModel.objects.filter(is_enabled=True).values_list("slug", flat=True)
    unpriced = enabled.filter(prices__isnull=True)
    untargeted = enabled.filter(targets__isnull=True)
    entered = Provider.objects.exclude(api_key_encrypted=b"").only("slug", "api_key_encrypted", "api_key_env")
    return [
        *(
            Warning(f"The model {model} has no price and cannot be called.", hint="Add one in the admin.", id="chat.W001")
            for model in unpriced
        ),
        *(
            Warning(f"The model {model} has no target and cannot be called.", hint="Add one in the admin.", id="chat.W002")
            for model in untargeted
        ),
        *(
            Warning(
                f"The key of the provider {provider} cannot be read with the FIELD_ENCRYPTION_KEYS of this process.",
                hint="Put the missing key back at the end of the list, or enter the provider's key again.",
                id="chat.W003",
            )
            for provider in entered
            if provider_key(provider).source == "unreadable"
        ),
    ]


def _has_tables() -> bool:
    """False before the first migration."""
    tables = connections["default"].introspection.table_names()
    return CatalogModel._meta.db_table in tables
