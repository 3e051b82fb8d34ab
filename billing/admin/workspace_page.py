"""What the page of a workspace shows: its limits with where each comes from, its spend stops, keys, members, last credits."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from billing import apikeys, quotas
from billing.admin.columns import badge, code, moment_shown, short_credits
from billing.models import Budget, CreditOrder, Workspace
from billing.pricing import credits_text

SHOWN_MOST = 20

_NAMES = {
    "allowed_models": "Models",
    "max_requests_per_minute": "Requests a minute",
    "max_requests_daily": "Requests a day",
    "max_tokens_per_minute": "Tokens a minute",
    "max_tokens_daily": "Tokens a day",
    "max_concurrent_requests": "Requests at once",
    "max_budget_monthly_microcredits": "Budget of each key, a month (credits)",
    "max_file_size_bytes": "Largest file (bytes)",
    "max_files_per_workspace": "Files",
    "max_storage_bytes_per_workspace": "Storage (bytes)",
}


def workspace_told(workspace: Workspace) -> dict[str, Any]:
    """A query for each card, whatever the workspace holds."""
    account = workspace.account
    keys = workspace.api_keys.order_by("-pk")[:SHOWN_MOST]
    members = workspace.memberships.filter(removed_at__isnull=True).select_related("user", "preset").order_by("pk")[:SHOWN_MOST]
    budgets = Budget.objects.filter(scope=Budget.Scope.WORKSPACE, scope_id=workspace.pk).order_by("period")
    orders = CreditOrder.objects.filter(workspace=workspace).order_by("-created_at")[:10]
    usage = reverse("admin:billing_usagerecord_changelist")
    return {
        "workspace": workspace,
        "state_badge": badge(workspace.state),
        "facts": [
            ("Id", code(workspace.public_id, longest=60)),
            ("Plan", workspace.plan.name if workspace.plan else "none"),
            ("Plan credits come (UTC)", moment_shown(workspace.plan_renews_at) if workspace.plan_renews_at else "never"),
            ("Created (UTC)", moment_shown(workspace.created_at)),
            ("Balance", f"{credits_text(account.posted_microcredits)} credits"),
            ("Held", f"{credits_text(account.held_microcredits)} credits"),
            ("Free", f"{credits_text(account.posted_microcredits - account.held_microcredits)} credits"),
        ],
        "limits": _limits(workspace),
        "stops": [
            (
                stop.get_period_display(),
                short_credits(stop.limit_microcredits),
                short_credits(stop.spent_microcredits),
                "-" if stop.staff_limit_microcredits is None else short_credits(stop.staff_limit_microcredits),
            )
            for stop in budgets
        ],
        "keys": [(key, code(key.hint), badge(_state(key))) for key in keys],
        "members": members,
        "orders": [(order, short_credits(order.amount_microcredits), badge(order.state)) for order in orders],
        "links": [
            ("Requests", f"{usage}?workspace__id__exact={workspace.pk}"),
            ("API keys", f"{reverse('admin:billing_apikey_changelist')}?workspace__id__exact={workspace.pk}"),
            ("Members", f"{reverse('admin:billing_membership_changelist')}?workspace__id__exact={workspace.pk}"),
            ("Audit trail", f"{reverse('admin:billing_auditevent_changelist')}?workspace__id__exact={workspace.pk}"),
        ],
    }


def _state(key: Any) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if apikeys.is_expired(key) else "active"


def _limits(workspace: Workspace) -> list[tuple[str, str, str]]:
    """Name, value, and the layer it comes from."""
    effective = quotas.of_workspace(workspace)
    rows = []
    for field, name in _NAMES.items():
        limit = getattr(effective, field)
        rows.append((name, _value(field, limit.value), limit.source.value if limit.source else "-"))
    return rows


def _value(field: str, value: Any) -> str:
    if value is None:
        return "all" if field == "allowed_models" else "none"
    if field == "allowed_models":
        return ", ".join(sorted(value)) or "no model"
    return short_credits(value) if field.endswith("microcredits") else f"{value:,}"
