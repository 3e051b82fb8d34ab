"""The catalogue as a serving process knows it, and the way a request takes through it.

    versions.py   which version of a price counts at a moment
    snapshot.py   the whole catalogue as one immutable value, read from the rows
    following.py  keeps the snapshot of a process current, without a query per request
    planning.py   which models may serve a request, in which order (pure)

`chat.loading` writes the rows; nothing here does.
"""

from chat.catalog.following import Catalog, current
from chat.catalog.planning import Need, may_use, needs_of, plan
from chat.catalog.snapshot import (
    ProviderKey,
    Snapshot,
    key_context,
    load_snapshot,
    probe_target,
    provider_key,
    read_version,
)
from chat.catalog.versions import in_force, price_list, scheduled, with_end

__all__ = [
    "Catalog",
    "Need",
    "ProviderKey",
    "Snapshot",
    "current",
    "in_force",
    "key_context",
    "load_snapshot",
    "may_use",
    "needs_of",
    "plan",
    "price_list",
    "probe_target",
    "provider_key",
    "read_version",
    "scheduled",
    "with_end",
]
