"""Routes of the management API, below `/api/`."""

from __future__ import annotations

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from billing.api.budgets import Budgets
from billing.api.keys import KeyDetail, KeyRoll, Keys
from billing.api.members import MemberDetail, Members
from billing.api.presets import PresetDetail, Presets
from billing.api.workspaces import WorkspaceDetail, Workspaces


class PublicIdConverter(StringConverter):
    """What can be an id at all: nothing else reaches a query."""

    regex = "[0-9A-Za-z_]{1,64}"


register_converter(PublicIdConverter, "public_id")

WORKSPACE = "workspaces/<public_id:workspace_id>"

urlpatterns = [
    path("workspaces", Workspaces.as_view(), name="workspaces"),
    path(WORKSPACE, WorkspaceDetail.as_view(), name="workspace"),
    path(f"{WORKSPACE}/presets", Presets.as_view(), name="presets"),
    path(f"{WORKSPACE}/presets/<public_id:preset_id>", PresetDetail.as_view(), name="preset"),
    path(f"{WORKSPACE}/budgets", Budgets.as_view(), name="budgets"),
    path(f"{WORKSPACE}/keys", Keys.as_view(), name="keys"),
    path(f"{WORKSPACE}/keys/<public_id:key_id>", KeyDetail.as_view(), name="key-detail"),
    path(f"{WORKSPACE}/keys/<public_id:key_id>/roll", KeyRoll.as_view(), name="key-roll"),
    path(f"{WORKSPACE}/members", Members.as_view(), name="members"),
    path(f"{WORKSPACE}/members/<public_id:member_id>", MemberDetail.as_view(), name="member"),
]
