"""What the management API shows: workspaces, keys, members, presets and budgets as JSON values.

Limits bear the product's names; those in force also say which layer they come from. Amounts are credits, as exact numbers;
times are UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from billing import quotas
from billing.api.reading import credits_number
from billing.apikeys import is_expired
from billing.ledger.decider import period_start
from billing.models import ApiKey, Budget, Invitation, Membership, QuotaPreset, Workspace
from billing.moments import moment_text, period_end

BUDGET_LIMIT: Final = "max_budget_monthly_microcredits"
# The product's own names of the limits: those of a key, and those of a preset.
KEY_LIMITS: Final = {
    "allowedModels": "allowed_models",
    "maxRequestsPerMinute": "max_requests_per_minute",
    "maxRequestsDaily": "max_requests_daily",
    "maxTokensPerMinute": "max_tokens_per_minute",
    "maxTokensDaily": "max_tokens_daily",
    "maxConcurrentRequests": "max_concurrent_requests",
    "maxBudgetMonthlyCredits": BUDGET_LIMIT,
}
LIMITS: Final = {
    **KEY_LIMITS,
    "maxFileSizeBytes": "max_file_size_bytes",
    "maxFilesPerWorkspace": "max_files_per_workspace",
    "maxStorageBytesPerWorkspace": "max_storage_bytes_per_workspace",
}


def workspace_object(workspace: Workspace, role: str | None) -> dict[str, Any]:
    """With the caller's role in it; a key has none."""
    return {
        "id": workspace.public_id,
        "object": "workspace",
        "name": workspace.name,
        "state": workspace.state,
        "role": role,
        "plan": workspace.plan.public_id if workspace.plan else None,
        "limits": effective_limits(quotas.of_workspace(workspace)),
        "created_at": moment_text(workspace.created_at),
    }


def key_object(key: ApiKey) -> dict[str, Any]:
    """A key that was loaded with its layers. Its text is nowhere but in the answer that made it."""
    return {
        "id": key.public_id,
        "object": "api_key",
        "name": key.name,
        "hint": key.hint,
        "state": _state_of(key),
        "scopes": key.scopes,
        "allowed_addresses": key.allowed_addresses,
        "owner": key.owner.public_id if key.owner else None,
        "preset": key.preset.public_id if key.preset else None,
        **_own_limits(key, KEY_LIMITS),
        "limits": effective_limits(quotas.of_key(key)),
        "created_at": moment_text(key.created_at),
        "expires_at": _moment_or_null(key.expires_at),
        "revoked_at": _moment_or_null(key.revoked_at),
    }


def member_object(member: Membership) -> dict[str, Any]:
    """A member that was loaded with his user and preset."""
    return {
        "id": member.public_id,
        "object": "member",
        "username": member.user.get_username(),
        "role": member.role,
        "preset": member.preset.public_id if member.preset else None,
        "created_at": moment_text(member.created_at),
    }


def invitation_object(invitation: Invitation) -> dict[str, Any]:
    """An invitation that was just made. It says nothing of an account that the address may have."""
    return {
        "id": invitation.public_id,
        "object": "invitation",
        "email": invitation.email,
        "role": invitation.role,
        "created_at": moment_text(invitation.created_at),
        "expires_at": moment_text(invitation.expires_at),
    }


def preset_object(preset: QuotaPreset) -> dict[str, Any]:
    """`is_shared`: it is there for every workspace, and none of them changes it. Its credits are those of a plan."""
    return {
        "id": preset.public_id,
        "object": "preset",
        "name": preset.name,
        "is_shared": preset.workspace_id is None,
        **_own_limits(preset, LIMITS),
        "monthlyCredits": _credits_or_null(preset.monthly_microcredits),
        "hasRollover": preset.has_rollover,
        "maxRolloverCredits": _credits_or_null(preset.max_rollover_microcredits),
        "created_at": moment_text(preset.created_at),
    }


def budget_object(budget: Budget, subject_id: str, now: datetime) -> dict[str, Any]:
    """A budget as the next request would find it; `subject_id` is the public id of what it limits.

    `staff_limit` is what staff let the workspace spend at most.
    """
    started_at = max(budget.period_started_at, period_start(budget.period, now))
    spent = budget.spent_microcredits if started_at == budget.period_started_at else 0
    left = budget.limit_microcredits - spent - budget.held_microcredits
    return {
        "id": budget.public_id,
        "object": "budget",
        "scope": budget.scope,
        "scope_id": subject_id,
        "period": budget.period,
        "limit": credits_number(budget.limit_microcredits),
        "staff_limit": _credits_or_null(budget.staff_limit_microcredits),
        "spent": credits_number(spent),
        "held": credits_number(budget.held_microcredits),
        "available": credits_number(max(0, left)),
        "started_at": moment_text(started_at),
        "resets_at": _moment_or_null(period_end(budget.period, period_start(budget.period, now))),
    }


def effective_limits(effective: quotas.Effective) -> dict[str, Any]:
    """Each limit in force with the layer it comes from; both are null where nothing limits."""
    shown = {}
    for name, field in LIMITS.items():
        limit: quotas.Limit[Any] = getattr(effective, field)
        shown[name] = {"value": _limit_value(field, limit.value), "source": limit.source}
    return shown


def _own_limits(row: ApiKey | QuotaPreset, names: dict[str, str]) -> dict[str, Any]:
    return {name: _limit_value(field, getattr(row, field)) for name, field in names.items()}


def _limit_value(field: str, value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    return _credits_or_null(value) if field == BUDGET_LIMIT else value


def _state_of(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if is_expired(key) else "active"


def _credits_or_null(amount_microcredits: int | None) -> Any:
    return None if amount_microcredits is None else credits_number(amount_microcredits)


def _moment_or_null(at: datetime | None) -> str | None:
    return None if at is None else moment_text(at)
