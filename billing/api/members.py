"""`/api/workspaces/{id}/members`: the people of a workspace, their roles and presets."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.request import Request

from billing import members
from billing.api.bodies import MemberBody, NewMemberBody
from billing.api.managing import CreatingView, ManagementView, created, found, page
from billing.api.objects import member_object
from billing.api.reading import answer
from billing.errors import InvalidValue, NotPermitted
from billing.models import Membership
from billing.permissions import Action, Grant
from billing.presets import set_member_preset

Role = Membership.Role


class _MemberView(ManagementView):
    def members(self) -> QuerySet[Membership]:
        return members.list_members(self.caller.workspace).select_related("user", "preset", "workspace")


class Members(_MemberView, CreatingView):
    actions = {"GET": Action.READ_MEMBERS, "POST": Action.ADD_MEMBERS}

    def get(self, request: Request, workspace_id: str) -> HttpResponse:
        return page(request, self.members(), lambda rows: [member_object(row) for row in rows])

    def create(self, request: Request, **kwargs: str) -> HttpResponse:
        values = self.fields(request, NewMemberBody)
        role = Role(values["role"])
        if role == Role.OWNER:
            self.caller.permit(Action.TRANSFER_WORKSPACE)
        user = User.objects.filter(username=values["username"], is_active=True).first()
        if user is None:
            raise InvalidValue("There is no user of this name.", "username")
        caller = self.caller
        member = members.add_member(caller.workspace, user, role, actor=caller.actor, giver=caller.giver)
        return created(member_object(member))


class MemberDetail(_MemberView):
    actions = {"GET": Action.READ_MEMBERS, "PATCH": Action.CHANGE_MEMBERS, "DELETE": Action.REMOVE_MEMBERS}

    def get(self, request: Request, workspace_id: str, member_id: str) -> HttpResponse:
        return answer(member_object(found(self.members(), member_id)))

    def patch(self, request: Request, workspace_id: str, member_id: str) -> HttpResponse:
        """To make somebody the owner hands the ownership over, which only the owner may."""
        member = found(self.members(), member_id)
        values = self.fields(request, MemberBody, is_partial=True)
        with transaction.atomic():
            revoked = self._change_role(member, Role(values["role"])) if "role" in values else 0
            if "preset" in values:
                self._change_preset(member, values["preset"])
        return answer({**member_object(found(self.members(), member_id)), "revoked_keys": revoked})

    def delete(self, request: Request, workspace_id: str, member_id: str) -> HttpResponse:
        member = found(self.members(), member_id)
        if self.caller.permit(Action.REMOVE_MEMBERS) is Grant.OWN and member != self.caller.member:
            raise NotPermitted
        revoked = members.remove_member(member, actor=self.caller.actor)
        return answer({"id": member.public_id, "object": "member", "removed": True, "revoked_keys": revoked})

    def _change_role(self, member: Membership, role: Membership.Role) -> int:
        if role != Role.OWNER:
            return members.change_role(member, role, actor=self.caller.actor, giver=self.caller.giver)
        self.caller.permit(Action.TRANSFER_WORKSPACE)
        members.transfer_ownership(self.caller.workspace, member, actor=self.caller.actor)
        return 0

    def _change_preset(self, member: Membership, preset_id: Any) -> None:
        self.caller.permit(Action.ASSIGN_PRESETS)
        preset = None if preset_id is None else self.preset(preset_id)
        set_member_preset(member, preset, actor=self.caller.actor)
