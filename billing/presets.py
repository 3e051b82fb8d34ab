"""Presets of limits, and to whom they apply: the plan of a workspace, a member, a key.

A preset belongs to one workspace, or to all of them. Whoever changes one, or gives it to somebody, has the budgets of the
keys below follow in the same transaction; all other limits are read anew with each look-up of a key. The monthly credits of
a preset count where it is the plan of a workspace (`billing.renewals`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from billing import audit, budgets, quotas, renewals
from billing.apikeys.terms import checked_models, checked_name, named
from billing.errors import NotPermitted
from billing.models import ApiKey, Membership, QuotaPreset, Workspace
from billing.pricing import MAX_MICROCREDITS


class PresetNotFound(LookupError):
    """No preset, or more than one, answers to a reference. The message is for the person who gave it."""


class PlanCredits(msgspec.Struct, frozen=True):
    """What a plan gives each month, None for nothing; what is left of it may roll over into the next, up to a maximum."""

    monthly_microcredits: int | None = None
    has_rollover: bool = False
    max_rollover_microcredits: int | None = None


NO_CREDITS = PlanCredits()
NAMED_MOST = 20
"""Of plans with one name, so many are told."""


def list_presets(workspace: Workspace) -> QuerySet[QuotaPreset]:
    """The presets that a workspace may give to its members and keys."""
    return QuotaPreset.objects.filter(Q(workspace=workspace) | Q(workspace__isnull=True))


def get_preset(reference: str, workspace: Workspace) -> QuotaPreset:
    """The preset of this public id or name, among those the workspace may use. Raises PresetNotFound."""
    known = list_presets(workspace)
    found = list(known.filter(public_id=reference)) or list(known.filter(name=reference)[:NAMED_MOST])
    if not found:
        raise PresetNotFound(f"No plan is named {reference!r}.")
    if len(found) > 1:
        ids = ", ".join([preset.public_id for preset in found])
        raise PresetNotFound(f"Several plans are named {reference!r}; give an id instead: {ids}.")
    return found[0]


def check_is_new(name: str) -> None:
    """Raises ValidationError for the name of a plan of all workspaces, which nobody could tell from a second one."""
    plan = QuotaPreset.objects.filter(workspace__isnull=True, name=name.strip()).first()
    if plan is not None:
        raise ValidationError(f"There is a plan {plan.name} already: {plan.public_id}.")


def create_preset(
    name: str,
    limits: quotas.Limits,
    *,
    actor: str,
    workspace: Workspace | None = None,
    plan_credits: PlanCredits = NO_CREDITS,
) -> QuotaPreset:
    """A new preset of one workspace, or of all. Raises ValidationError."""
    columns = _columns(limits) | _credit_columns(plan_credits)
    with transaction.atomic():
        preset = QuotaPreset(workspace=workspace, name=named("name", checked_name, name), **columns)
        preset.full_clean()
        preset.save()
        audit.record("preset.created", actor=actor, workspace=workspace, target=preset.public_id, details=_told(preset))
    return preset


def change_preset(
    preset: QuotaPreset, name: str, limits: quotas.Limits, *, actor: str, plan_credits: PlanCredits | None = None
) -> QuotaPreset:
    """Replace the name and all limits of a preset, for everybody who has it. Raises ValidationError.

    Its monthly credits stay unless others are given: those come with the next renewal of each workspace.
    """
    columns = _columns(limits) | (_credit_columns(plan_credits) if plan_credits else {})
    keys = ApiKey.objects.filter(Q(preset=preset) | Q(owner__preset=preset) | Q(workspace__plan=preset))
    with transaction.atomic():
        budgets.lock_workspaces(keys)
        preset.refresh_from_db()
        preset.name = named("name", checked_name, name)
        for column, value in columns.items():
            setattr(preset, column, value)
        preset.full_clean()
        preset.save()
        budgets.follow(keys)
        audit.record("preset.changed", actor=actor, workspace=preset.workspace, target=preset.public_id, details=_told(preset))
    return preset


def change_own_preset(
    workspace: Workspace, preset: QuotaPreset, *, name: str | None, limits: Mapping[str, Any], actor: str
) -> QuotaPreset:
    """Change the name and some limits of a preset, for the workspace whose it is; the rest stays as it is.

    Raises ValidationError, and NotPermitted for a preset of all workspaces, and for one that is the plan: a workspace does
    not decide what it may do itself.
    """
    with transaction.atomic():
        # Until the end nobody makes it the plan.
        budgets.lock(Workspace.objects.filter(pk=workspace.pk))
        current = QuotaPreset.objects.get(pk=preset.pk)
        if current.workspace_id != workspace.pk or Workspace.objects.filter(plan=current).exists():
            raise NotPermitted
        changed = msgspec.structs.replace(quotas.of_row(current), **limits)
        return change_preset(current, name or current.name, changed, actor=actor)


def set_plan(workspace: Workspace, preset: QuotaPreset | None, *, actor: str, reason: str = "") -> None:
    """Give a workspace its plan, or none. The plan's first credits come at once, if this month has none yet.

    Raises TransferError (`billing.ledger.transfers`) for credits that cannot be kept.
    """
    with transaction.atomic():
        renewals.change_plan(workspace, preset, timezone.now())
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


def _credit_columns(plan_credits: PlanCredits) -> dict[str, Any]:
    """Raises ValidationError for credits that make no sense."""
    monthly, most = plan_credits.monthly_microcredits, plan_credits.max_rollover_microcredits
    if monthly is not None and not 0 < monthly <= MAX_MICROCREDITS:
        raise ValidationError({"monthly_microcredits": "Monthly credits are more than 0."})
    if plan_credits.has_rollover and monthly is None:
        raise ValidationError({"has_rollover": "Only monthly credits roll over."})
    if most is not None and not (plan_credits.has_rollover and 0 <= most <= MAX_MICROCREDITS):
        raise ValidationError(
            {"max_rollover_microcredits": "It is 0 credits or more, and only for monthly credits that roll over."}
        )
    return msgspec.structs.asdict(plan_credits)


def _told(preset: QuotaPreset) -> dict[str, Any]:
    """The preset as the audit trail keeps it."""
    fields = ("name", *quotas.FIELDS, *PlanCredits.__struct_fields__)
    return {field: getattr(preset, field) for field in fields}
