"""What may be read about money: one query each, no writes."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from django.db.models import F

from billing.models import Account


async def get_available_microcredits(account_id: int) -> int:
    """What a workspace could still hold: its balance less what is held."""
    return await sync_to_async(_available, thread_sensitive=False)(account_id)


def _available(account_id: int) -> int:
    try:
        rows = Account.objects.filter(pk=account_id)
        return int(rows.values_list(F("posted_microcredits") - F("held_microcredits"), flat=True).get())
    finally:
        close_old_connections()
