"""Which limits count for a key: platform, workspace plan, member preset, key preset, the key's own; the tightest wins.

    cascade    limits as values, and the rule that joins their layers (pure)
    layers     the layers of a key, a member or a workspace, from rows that were loaded with `select_related`

A limit that is absent limits nothing, so a layer can only ever make a limit tighter. Each limit in force carries the
layer it came from. Must not: write, or decide what happens at a limit (`billing.limits`, `billing.budgets`).
"""

from __future__ import annotations

from billing.quotas.cascade import EVERY_MODEL, FIELDS, Effective, Limit, Limits, Source, cascade
from billing.quotas.layers import (
    KEY_LAYERS,
    Layer,
    layers_of_key,
    layers_of_member,
    layers_of_workspace,
    of_key,
    of_member,
    of_platform,
    of_row,
    of_workspace,
)

__all__ = [
    "EVERY_MODEL",
    "FIELDS",
    "KEY_LAYERS",
    "Effective",
    "Layer",
    "Limit",
    "Limits",
    "Source",
    "cascade",
    "layers_of_key",
    "layers_of_member",
    "layers_of_workspace",
    "of_key",
    "of_member",
    "of_platform",
    "of_row",
    "of_workspace",
]
