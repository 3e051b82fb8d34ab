"""Notices are added here, in the transaction of what they tell. `billing.alerts` gives them to mail and webhooks afterwards.

Data are small JSON values for programs; no secret ever stands in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billing.models import Notice, Workspace


def publish(
    workspace: Workspace,
    kind: Notice.Kind,
    *,
    title: str,
    text: str,
    data: Mapping[str, Any],
    place: str = "",
    owner_id: int | None = None,
) -> Notice:
    """Keep that this happened; `place` is a path below the workspace's pages. A long title is cut to its column."""
    return Notice.objects.create(
        workspace=workspace, kind=kind, title=title[:200], text=text, data=dict(data), place=place, owner_id=owner_id
    )
