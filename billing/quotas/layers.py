"""The layers of a key, a member or a workspace.

Whoever loads a key for its limits loads `KEY_LAYERS` with it; then nothing here asks the database.
"""

from __future__ import annotations

import msgspec
from django.conf import settings

from billing.models import ApiKey, Membership, QuotaPreset, Workspace
from billing.quotas.cascade import EVERY_MODEL, FIELDS, Effective, Limits, Source, cascade

KEY_LAYERS = ("workspace__plan", "owner__preset", "preset")

Layer = tuple[Source, Limits]

_NO_LIMITS = Limits()


def of_row(row: QuotaPreset | ApiKey) -> Limits:
    """The limits that stand in a preset, or in a key's own columns."""
    values = {name: getattr(row, name, None) for name in FIELDS}
    values["allowed_models"] = None if EVERY_MODEL in row.allowed_models else frozenset(row.allowed_models)
    return Limits(**values)


def of_platform() -> Limits:
    """What `settings.PLATFORM_LIMITS` says for everybody. Raises msgspec.ValidationError for a setting that says nothing."""
    return msgspec.convert(settings.PLATFORM_LIMITS, Limits)


def of_workspace(workspace: Workspace) -> Effective:
    """What counts for every key of the workspace."""
    return cascade(layers_of_workspace(workspace))


def of_member(member: Membership) -> Effective:
    """What counts for every key of the member."""
    return cascade(layers_of_member(member))


def of_key(key: ApiKey) -> Effective:
    """What counts for the key."""
    return cascade(layers_of_key(key))


def layers_of_workspace(workspace: Workspace) -> list[Layer]:
    """From the outermost inwards, as the two below."""
    return [(Source.PLATFORM, of_platform()), (Source.PLAN, _of_preset(workspace.plan))]


def layers_of_member(member: Membership) -> list[Layer]:
    return [*layers_of_workspace(member.workspace), (Source.MEMBER, _of_preset(member.preset))]


def layers_of_key(key: ApiKey) -> list[Layer]:
    member_preset = None if key.owner is None else key.owner.preset
    return [
        *layers_of_workspace(key.workspace),
        (Source.MEMBER, _of_preset(member_preset)),
        (Source.PRESET, _of_preset(key.preset)),
        (Source.KEY, of_row(key)),
    ]


def _of_preset(preset: QuotaPreset | None) -> Limits:
    return _NO_LIMITS if preset is None else of_row(preset)
