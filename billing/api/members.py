"""`/api/workspaces/{id}/members`: the people of a workspace, their roles and presets.

Nobody becomes a member without agreeing to it: a POST invites an address, and is answered alike whoever has it, or nobody.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.request import Request

from billing import invitations, members
from billing.api.bodies import MemberBody, NewMemberBody
from billing.api.managing import CreatingView, ManagementView, created, found, page
from billing.api.objects import invitation_object, member_object
from billing.api.reading import answer
from billing.errors import InvalidValue, NotPermitted, RoleTooBroad
from billing.models import ApiKey, Membership
from billing.permissions import Action, Grant, may_give
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
        if not may_give(self.caller.giver, role):  # a key may not, although it invites in the name of somebody who may
            raise RoleTooBroad(role.label)
        link = invitations.link_on(request.build_absolute_uri)
        workspace, actor = self.caller.workspace, self.caller.actor
        invitation = invitations.invite(workspace, values["email"], role, inviter=self._inviter(), link=link, actor=actor)
        return created(invitation_object(invitation))

    def _inviter(self) -> User:
        """In whose name a person is invited: by a key, in that of its member, or of the owner."""
        member = self.caller.member
        if self.caller.principal is not None:
            key = ApiKey.objects.select_related("owner__user").get(pk=self.caller.principal.api_key_id)
            member = key.owner or self.members().filter(role=Role.OWNER).first()
        if member is None:
            message = "This workspace has no owner in whose name a key could invite anybody: staff add its first member."
            raise InvalidValue(message, "email")
        return member.user


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
