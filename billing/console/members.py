"""Members of a workspace: who they are, what they may, and invitations to become one."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing import invitations, members
from billing.console.edits import edited
from billing.console.shell import render
from billing.console.visits import Visit, found, sent, visiting
from billing.errors import InvitationLimitExceeded, OwnerRequired, RoleTooBroad
from billing.models import Membership
from billing.permissions import Action, Grant, may_give

AT = "console-members"
Role = Membership.Role
WORDS = {
    Role.OWNER: "Everything, and the ownership itself",
    Role.ADMIN: "Everything but the ownership and paying; sees credits",
    Role.DEVELOPER: "Own keys and their usage, files, playground",
    Role.BILLING: "Credits, usage and budgets; no keys, no files",
    Role.VIEWER: "Sees everything, changes nothing",
}
OFFERED = (Role.DEVELOPER, Role.ADMIN, Role.BILLING, Role.VIEWER)


@visiting(GET=Action.READ_MEMBERS, POST=Action.ADD_MEMBERS)
def people(request: HttpRequest, visit: Visit) -> HttpResponse:
    """The list; its form invites."""
    if request.method != "POST":
        return _shown(request, visit)
    values = sent(request, "email", "role")
    link = invitations.link_on(request.build_absolute_uri)
    try:
        role = _role(values["role"])
        invitations.invite(visit.workspace, values["email"], role, inviter=visit.user, link=link, actor=visit.actor)
    except ValidationError as refusal:
        return _shown(request, visit, email=values["email"], role=values["role"], error=refusal.messages[0])
    except RoleTooBroad as refusal:
        raise PermissionDenied(refusal.message) from None
    except InvitationLimitExceeded as refusal:
        page = _shown(request, visit, email=values["email"], role=values["role"], error=refusal.message, status=refusal.status)
        for name, value in refusal.headers:
            page[name] = value
        return page
    messages.success(request, f"{values['email']} was sent an invitation, which ends in 24 hours.")
    return redirect(AT, visit.workspace.public_id)


@visiting(POST=Action.CHANGE_MEMBERS)
def change(request: HttpRequest, visit: Visit, member_id: str) -> HttpResponse:
    member = found(_members(visit), member_id)
    try:
        role = _role(edited(request, {"role": member.role})["role"], member.role)
        revoked = members.change_role(member, role, actor=visit.actor, giver=visit.member.role)
    except ValidationError as refusal:
        messages.error(request, refusal.messages[0])
    except OwnerRequired as refusal:
        messages.error(request, refusal.message)
    except RoleTooBroad as refusal:
        raise PermissionDenied(refusal.message) from None
    else:
        more = f" {revoked} keys that this role may not have were revoked." if revoked else ""
        messages.success(request, f"{member.user.get_username()} is {role.label} now.{more}")
    return redirect(AT, visit.workspace.public_id)


@visiting(POST=Action.REMOVE_MEMBERS)
def remove(request: HttpRequest, visit: Visit, member_id: str) -> HttpResponse:
    member = found(_members(visit), member_id)
    if visit.grant(Action.REMOVE_MEMBERS) is Grant.OWN and member != visit.member:
        raise PermissionDenied("Your role allows you to leave the workspace, and to remove nobody else.")
    sent(request)
    try:
        revoked = members.remove_member(member, actor=visit.actor)
    except (OwnerRequired, ValidationError) as refusal:
        messages.error(request, refusal.message if isinstance(refusal, OwnerRequired) else refusal.messages[0])
        return redirect(AT, visit.workspace.public_id)
    keys = f"{revoked} key was" if revoked == 1 else f"{revoked} keys were"
    if member == visit.member:
        messages.success(request, f"You have left {visit.workspace.name}; {keys} revoked.")
        return redirect("console")
    messages.success(request, f"{member.user.get_username()} was removed; {keys} revoked.")
    return redirect(AT, visit.workspace.public_id)


@visiting(POST=Action.TRANSFER_WORKSPACE)
def hand_over(request: HttpRequest, visit: Visit, member_id: str) -> HttpResponse:
    member = found(_members(visit), member_id)
    sent(request)
    members.transfer_ownership(visit.workspace, member, actor=visit.actor)
    messages.success(request, f"{member.user.get_username()} is the owner of {visit.workspace.name} now.")
    return redirect(AT, visit.workspace.public_id)


@visiting(POST=Action.ADD_MEMBERS)
def withdraw(request: HttpRequest, visit: Visit, invitation_id: str) -> HttpResponse:
    invitation = found(invitations.list_open(visit.workspace), invitation_id)
    sent(request)
    invitations.withdraw(invitation, actor=visit.actor)
    messages.success(request, f"The invitation of {invitation.email} was withdrawn.")
    return redirect(AT, visit.workspace.public_id)


def _shown(
    request: HttpRequest, visit: Visit, *, email: str = "", role: str = "developer", error: str = "", status: int = 400
) -> HttpResponse:
    is_usable = Q(api_keys__revoked_at__isnull=True, api_keys__is_playground=False)
    context = {
        "people": list(_members(visit).annotate(keys=Count("api_keys", filter=is_usable)).order_by("pk")),
        "invitations": list(invitations.list_open(visit.workspace)) if visit.may(Action.ADD_MEMBERS) else [],
        "roles": [(one.value, one.label, WORDS[one]) for one in OFFERED if may_give(visit.member.role, one)],
        "role_words": [(one.label, WORDS[one]) for one in WORDS],
        "email": email,
        "role": role,
        "error": error,
    }
    return render(request, visit, "console/members.html", context, at=AT, status=status if error else 200)


def _members(visit: Visit) -> QuerySet[Membership]:
    return members.list_members(visit.workspace).select_related("user", "workspace")


def _role(text: str, now: str = "") -> Membership.Role:
    if text not in {now, *(role.value for role in OFFERED)}:
        raise ValidationError("Choose one of the roles.")
    return Role(text)
