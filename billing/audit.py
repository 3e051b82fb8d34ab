"""The audit trail: one row for each administrative act, written in the transaction of the act itself.

Rows are added here and nowhere else, and never changed. Details are small JSON values that explain the act; a secret
never stands in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billing.models import AuditEvent, Workspace


def record(
    action: str,
    *,
    actor: str,
    workspace: Workspace | None = None,
    target: str = "",
    reason: str = "",
    details: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Keep that `actor` did `action` (`api_key.created`) to `target`. Long texts are cut to their columns."""
    return AuditEvent.objects.create(
        action=action,
        actor=actor[:160],
        workspace=workspace,
        target=target[:160],
        reason=reason[:500],
        details=dict(details or {}),
    )
