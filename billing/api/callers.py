"""Who calls the management API: a person by his session, or a program by a management key.

A header `Authorization` decides alone; without it the session does, and then a change needs the CSRF token and an origin
of this site. A person is found as a member of the workspace that the URL names, with the role of this moment; a key
speaks for its own workspace only. To everybody else a workspace does not exist.
"""

from __future__ import annotations

from typing import Any

import msgspec
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import Http404
from rest_framework.authentication import BaseAuthentication, CSRFCheck
from rest_framework.request import Request

from billing.api.authentication import ApiKeyAuthentication
from billing.apikeys import Creator, Principal, creator_of
from billing.errors import CsrfFailed, InsufficientScope, MissingApiKey, NotPermitted
from billing.members import memberships_open_to
from billing.models import ApiKey, Membership, Workspace
from billing.permissions import TABLE, Action, Grant, grant_of_role, grant_of_scopes, scopes_of_key


class ManagementAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[AbstractBaseUser | AnonymousUser, Principal | None]:
        """Raises the refusals of `billing.errors`."""
        if "HTTP_AUTHORIZATION" in request.META:
            return ApiKeyAuthentication().authenticate(request)
        user = request._request.user
        if not user.is_authenticated:
            raise MissingApiKey
        check = CSRFCheck(_no_response)
        check.process_request(request._request)
        if check.process_view(request._request, _no_response, (), {}) is not None:
            raise CsrfFailed
        return user, None


def _no_response(request: Any) -> Any:
    """CSRFCheck is a middleware in front of nothing."""


class Caller(msgspec.Struct, frozen=True):
    """Who calls, in which workspace. `id` is the public id of the membership or the key; `actor` is for the audit trail.

    Exactly one of `member` and `principal` is there.
    """

    id: str
    actor: str
    workspace: Workspace
    member: Membership | None = None
    principal: Principal | None = None

    @property
    def workspace_id(self) -> int:
        return self.workspace.pk

    def grant(self, action: Action) -> Grant:
        if self.member is not None:
            return grant_of_role(action, self.member.role)
        return Grant.NONE if self.principal is None else grant_of_scopes(action, self.principal.scopes)

    def permit(self, action: Action) -> Grant:
        """How far the caller may do `action`. Raises NotPermitted, or InsufficientScope for a key, if not at all."""
        grant = self.grant(action)
        if grant is Grant.NONE:
            scopes = sorted(TABLE[action].scopes)
            if self.principal is not None and scopes:
                raise InsufficientScope(scopes[0])
            raise NotPermitted
        return grant

    @property
    def giver(self) -> str:
        """The role in whose place the caller gives roles. A management key gives what an admin may."""
        return Membership.Role.ADMIN if self.member is None else self.member.role

    def creator(self) -> Creator:
        """The bounds of the keys that the caller makes or changes."""
        if self.member is not None:
            return creator_of(self.member)
        if self.principal is None:
            raise NotPermitted
        key = ApiKey.objects.select_related("owner__workspace__plan", "owner__preset").get(pk=self.principal.api_key_id)
        return Creator(scopes_of_key(self.principal.scopes), self.principal.allowed_models, key.owner)


def caller_of(request: Request, workspace_id: str, action: Action) -> Caller:
    """Who calls, if he may do `action` in the workspace of this public id. Raises Http404 where it is not his."""
    principal = request.auth
    if isinstance(principal, Principal):
        caller = caller_of_key(principal)
        caller.permit(action)
        if principal.workspace_public_id != workspace_id:
            raise Http404
        return caller
    members = memberships_open_to(request.user.pk).select_related("workspace__plan", "preset", "user")
    member = members.filter(workspace__public_id=workspace_id).first()
    if member is None:
        raise Http404
    caller = Caller(member.public_id, f"user:{member.user.get_username()}", member.workspace, member=member)
    caller.permit(action)
    return caller


def caller_of_key(principal: Principal) -> Caller:
    key = ApiKey.objects.select_related("workspace__plan").get(pk=principal.api_key_id)
    return Caller(key.public_id, f"key:{key.public_id}", key.workspace, principal=principal)
