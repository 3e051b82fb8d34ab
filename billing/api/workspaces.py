"""`/api/workspaces`: the workspaces of the caller, and the presets that he may give to members and keys of one."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from billing.api.callers import ManagementAuthentication, caller_of_key
from billing.api.managing import ManagementView, page
from billing.api.objects import preset_object, workspace_object
from billing.api.reading import answer
from billing.apikeys import Principal
from billing.models import Membership, Workspace
from billing.permissions import Action
from billing.presets import list_presets
from infery_site.drf import ApiView


class Workspaces(ApiView):
    """Where a person is a member, with his role; a management key sees its own."""

    authentication_classes = [ManagementAuthentication]

    def get(self, request: Request) -> HttpResponse:
        if isinstance(request.auth, Principal):
            caller = caller_of_key(request.auth)
            caller.permit(Action.READ_WORKSPACE)
            roles: dict[int, str | None] = {caller.workspace_id: None}
        else:
            members = Membership.objects.filter(user=request.user.pk, removed_at__isnull=True)
            roles = dict(members.values_list("workspace_id", "role"))

        def shown(rows: list[Workspace]) -> list[dict[str, Any]]:
            return [workspace_object(row, roles[row.pk]) for row in rows]

        return page(request, Workspace.objects.filter(pk__in=roles).select_related("plan"), shown)


class WorkspaceDetail(ManagementView):
    actions = {"GET": Action.READ_WORKSPACE}

    def get(self, request: Request, workspace_id: str) -> HttpResponse:
        member = self.caller.member
        return answer(workspace_object(self.caller.workspace, member.role if member else None))


class Presets(ManagementView):
    actions = {"GET": Action.READ_PRESETS}

    def get(self, request: Request, workspace_id: str) -> HttpResponse:
        rows = list_presets(self.caller.workspace)
        return page(request, rows, lambda presets: [preset_object(preset) for preset in presets])
