"""The people of a workspace and their roles.

A role is read with each request, so a change counts at once; keys are rows of their own, and the ones that the new role
could not have made are revoked in the transaction of the change. Nobody gives a role that may do what his own may not
(`giver`); commands and staff, who name none, have no bounds. A workspace has at most one owner, who neither leaves
nor changes his role, but hands the ownership over; constraints of the database say the same.
"""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from billing import audit
from billing.apikeys import revoke_keys_of
from billing.budgets import lock
from billing.errors import OwnerRequired, RoleTooBroad
from billing.models import Entry, Membership, Workspace
from billing.permissions import may_give, scopes_of_role
from billing.pricing import MICROCREDITS_PER_CREDIT
from billing.workspaces import create_workspace, transfer_credits

Role = Membership.Role


def list_members(workspace: Workspace) -> QuerySet[Membership]:
    """Who belongs to the workspace now."""
    return workspace.memberships.filter(removed_at__isnull=True)


def memberships_open_to(user_id: int | None) -> QuerySet[Membership]:
    """Where a person may go: not where he left, and into no workspace that was closed."""
    own = Membership.objects.filter(user=user_id, removed_at__isnull=True)
    return own.exclude(workspace__state=Workspace.State.CLOSED)


def add_member(workspace: Workspace, user: User, role: Membership.Role, *, actor: str) -> Membership:
    """Make a person a member. Raises ValidationError if he is one, or if he would be a second owner."""
    with transaction.atomic():
        lock(Workspace.objects.filter(pk=workspace.pk))
        if list_members(workspace).filter(user=user).exists():
            raise ValidationError({"user": "This person is a member already."})
        if role == Role.OWNER and list_members(workspace).filter(role=Role.OWNER).exists():
            raise ValidationError({"role": "The workspace has an owner already."})
        member = Membership.objects.create(workspace=workspace, user=user, role=role)
        _record("member.added", member, actor, {"user": user.get_username(), "role": role.value})
    return member


def found_workspace(name: str, owner: User) -> Membership:
    """A new workspace of a person, who is its owner. Raises ValidationError for a name that cannot be."""
    actor = f"user:{owner.get_username()}"
    with transaction.atomic():
        workspace = create_workspace(name, actor=actor)
        if settings.SIGN_UP_CREDITS:
            amount_microcredits = settings.SIGN_UP_CREDITS * MICROCREDITS_PER_CREDIT
            # Once for a person, however many workspaces he makes.
            is_first = not Entry.objects.filter(idempotency_key=f"sign-up:{owner.pk}").exists()
            if is_first:
                transfer_credits(
                    workspace,
                    amount_microcredits,
                    kind=Entry.Kind.GRANT,
                    idempotency_key=f"sign-up:{owner.pk}",
                    actor=actor,
                    reason="Credits to begin with",
                )
        return add_member(workspace, owner, Role.OWNER, actor=actor)


def change_role(member: Membership, role: Membership.Role, *, actor: str, giver: str | None = None) -> int:
    """Give a member another role, at once; how many of his keys that revoked. To make an owner is `transfer_ownership`.

    Raises OwnerRequired for the owner, ValidationError for a person who has left, or for the role of the owner; RoleTooBroad.
    """
    with transaction.atomic():
        current = _current(member)
        if role == Role.OWNER:
            raise ValidationError({"role": "The ownership is transferred by the owner."})
        if current.role == role:
            return 0
        _check_giving(giver, role)
        Membership.objects.filter(pk=member.pk).update(role=role)
        revoked = revoke_keys_of(current, beyond=scopes_of_role(role), actor=actor, reason=f"the member became {role.label}")
        _record("member.role_changed", current, actor, {"from": current.role, "to": role.value, "revoked_keys": revoked})
    member.role = role
    return revoked


def remove_member(member: Membership, *, actor: str) -> int:
    """End a membership and revoke the member's keys, at once; how many those were. Raises OwnerRequired for the owner."""
    with transaction.atomic():
        current = _current(member)
        now = timezone.now()
        Membership.objects.filter(pk=member.pk).update(removed_at=now)
        revoked = revoke_keys_of(current, beyond=frozenset(), actor=actor, reason="the member was removed")
        details = {"user": current.user.get_username(), "role": current.role, "revoked_keys": revoked}
        _record("member.removed", current, actor, details)
    member.removed_at = now
    return revoked


def transfer_ownership(workspace: Workspace, to: Membership, *, actor: str) -> None:
    """Make another member the owner; the owner until then becomes an admin. Raises ValidationError for one who has left."""
    with transaction.atomic():
        lock(Workspace.objects.filter(pk=workspace.pk))
        members = list_members(workspace)
        if not members.filter(pk=to.pk).exists():
            raise ValidationError({"role": "Only a member can become the owner."})
        members.filter(role=Role.OWNER).exclude(pk=to.pk).update(role=Role.ADMIN)
        members.filter(pk=to.pk).update(role=Role.OWNER)
        _record("workspace.transferred", to, actor, {"to": to.user.get_username()})
    to.role = Role.OWNER


def _check_giving(giver: str | None, role: Membership.Role) -> None:
    if giver is not None and not may_give(giver, role):
        raise RoleTooBroad(role.label)


def _current(member: Membership) -> Membership:
    """The row as it stands, which nobody else changes until the transaction ends; not the owner's, and not of the past."""
    lock(Workspace.objects.filter(pk=member.workspace_id))
    current = Membership.objects.select_related("workspace", "user").get(pk=member.pk)
    if current.removed_at is not None:
        raise ValidationError({"member": "This person has left the workspace."})
    if current.role == Role.OWNER:
        raise OwnerRequired
    return current


def _record(action: str, member: Membership, actor: str, details: dict[str, object]) -> None:
    audit.record(action, actor=actor, workspace=member.workspace, target=member.public_id, details=details)
