"""`/api/workspaces/{id}/presets`: limits under a name, that members and keys of the workspace can be given.

A workspace sees its own and those for everybody, and changes its own.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from billing import presets, quotas
from billing.api.bodies import PresetBody
from billing.api.managing import CreatingView, ManagementView, created, page
from billing.api.objects import preset_object
from billing.api.reading import answer
from billing.permissions import Action


class Presets(CreatingView):
    actions = {"GET": Action.READ_PRESETS, "POST": Action.MANAGE_PRESETS}

    def get(self, request: Request, workspace_id: str) -> HttpResponse:
        rows = presets.list_presets(self.caller.workspace)
        return page(request, rows, lambda found: [preset_object(preset) for preset in found])

    def create(self, request: Request, **kwargs: str) -> HttpResponse:
        values = self.fields(request, PresetBody)
        name, workspace = values.pop("name"), self.caller.workspace
        limits = quotas.Limits(**_limits(values))
        preset = presets.create_preset(name, limits, actor=self.caller.actor, workspace=workspace)
        return created(preset_object(preset))


class PresetDetail(ManagementView):
    actions = {"GET": Action.READ_PRESETS, "PATCH": Action.MANAGE_PRESETS}

    def get(self, request: Request, workspace_id: str, preset_id: str) -> HttpResponse:
        return answer(preset_object(self.preset(preset_id)))

    def patch(self, request: Request, workspace_id: str, preset_id: str) -> HttpResponse:
        preset = self.preset(preset_id)
        values = self.fields(request, PresetBody, is_partial=True)
        name = values.pop("name", None)
        workspace, actor = self.caller.workspace, self.caller.actor
        preset = presets.change_own_preset(workspace, preset, name=name, limits=_limits(values), actor=actor)
        return answer(preset_object(preset))


def _limits(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a body as the fields of `quotas.Limits`, where every model is no list of models."""
    models = values.get("allowed_models")
    if models is None:
        return values
    return {**values, "allowed_models": None if quotas.EVERY_MODEL in models else frozenset(models)}
