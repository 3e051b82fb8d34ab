"""Presets of limits, and to whom they apply: the plan of a workspace, a member, a key.

A preset belongs to one workspace, or to all of them. Whoever changes one, or gives it to somebody, has the budgets of the
keys below follow in the same transaction; all other limits are read anew with each look-up of a key.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from billing import audit, budgets, quotas
from billing.apikeys.terms import checked_models, checked_name, named
from billing.models import ApiKey, Membership, QuotaPreset, Workspace


def list_presets(workspace: Workspace) -> QuerySet[QuotaPreset]:
    """The presets that a workspace may give to its members and keys."""
    return QuotaPreset.objects.filter(Q(workspace=workspace) | Q(workspace__isnull=True))


def create_preset(name: str, limits: quotas.Limits, *, actor: str, workspace: Workspace | None = None) -> QuotaPreset:
    """A new preset of one workspace, or of all. Raises ValidationError."""
    with transaction.atomic():
        preset = QuotaPreset(workspace=workspace, name=named("name", checked_name, name), **_columns(limits))
        preset.full_clean()
        preset.save()
        audit.record("preset.created", actor=actor, workspace=workspace, target=preset.public_id, details=_told(preset))
    return preset


def change_preset(preset: QuotaPreset, name: str, limits: quotas.Limits, *, actor: str) -> QuotaPreset:
    """Replace the name and all limits of a preset, for everybody who has it. Raises ValidationError."""
    keys = ApiKey.objects.filter(Q(preset=preset) | Q(owner__preset=preset) | Q(workspace__plan=preset))
    with transaction.atomic():
        budgets.lock_workspaces(keys)
        preset.name = named("name", checked_name, name)
        for column, value in _columns(limits).items():
            setattr(preset, column, value)
        preset.full_clean()
        preset.save()
        budgets.follow(keys)
        audit.record("preset.changed", actor=actor, workspace=preset.workspace, target=preset.public_id, details=_told(preset))
    return preset


def set_plan(workspace: Workspace, preset: QuotaPreset | None, *, actor: str, reason: str = "") -> None:
    """Give a workspace its plan, or none."""
    with transaction.atomic():
        Workspace.objects.filter(pk=workspace.pk).update(plan=preset)
        budgets.follow(ApiKey.objects.filter(workspace=workspace))
        audit.record(
            "workspace.plan_set",
            actor=actor,
            workspace=workspace,
            target=workspace.public_id,
            reason=reason,
            details={"preset": preset.public_id if preset else None},
        )
    workspace.plan = preset


def set_member_preset(member: Membership, preset: QuotaPreset | None, *, actor: str) -> None:
    """Limit every key of a member, or no longer."""
    keys = ApiKey.objects.filter(owner=member)
    with transaction.atomic():
        budgets.lock_workspaces(keys)
        Membership.objects.filter(pk=member.pk).update(preset=preset)
        budgets.follow(keys)
        audit.record(
            "member.preset_set",
            actor=actor,
            workspace=member.workspace,
            target=member.public_id,
            details={"preset": preset.public_id if preset else None},
        )
    member.preset = preset


def _columns(limits: quotas.Limits) -> dict[str, Any]:
    values: dict[str, Any] = {field: getattr(limits, field) for field in quotas.FIELDS}
    models = limits.allowed_models
    values["allowed_models"] = (
        [quotas.EVERY_MODEL] if models is None else named("allowed_models", checked_models, sorted(models))
    )
    return values


def _told(preset: QuotaPreset) -> dict[str, Any]:
    """The preset as the audit trail keeps it."""
    return {"name": preset.name, **{field: getattr(preset, field) for field in quotas.FIELDS}}
