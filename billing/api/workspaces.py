"""`/api/workspaces`: the workspaces of the caller, and their names."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from billing.api.bodies import WorkspaceBody
from billing.api.callers import ManagementAuthentication, caller_of_key
from billing.api.managing import ManagementView, page
from billing.api.objects import workspace_object
from billing.api.reading import answer
from billing.apikeys import Principal
from billing.members import memberships_open_to
from billing.models import Workspace
from billing.permissions import Action
from billing.workspaces import rename_workspace
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
            members = memberships_open_to(request.user.pk)
            roles = dict(members.values_list("workspace_id", "role"))

        def shown(rows: list[Workspace]) -> list[dict[str, Any]]:
            return [workspace_object(row, roles[row.pk]) for row in rows]

        return page(request, Workspace.objects.filter(pk__in=roles).select_related("plan"), shown)


class WorkspaceDetail(ManagementView):
    actions = {"GET": Action.READ_WORKSPACE, "PATCH": Action.RENAME_WORKSPACE}

    def get(self, request: Request, workspace_id: str) -> HttpResponse:
        return self._answer(self.caller.workspace)

    def patch(self, request: Request, workspace_id: str) -> HttpResponse:
        values = self.fields(request, WorkspaceBody, is_partial=True)
        workspace = self.caller.workspace
        if "name" in values:
            workspace = rename_workspace(workspace, values["name"], actor=self.caller.actor)
        return self._answer(workspace)

    def _answer(self, workspace: Workspace) -> HttpResponse:
        member = self.caller.member
        return answer(workspace_object(workspace, member.role if member else None))
