"""Invitations: a role in a workspace, offered by mail to an address for 24 hours.

Whoever accepts proves that the address is his by an account that has verified it; the link in the mail is therefore no
secret, and says nothing to anybody else. An address has one open invitation in a workspace: a new one takes its place.
An offer stands for as long as whoever made it could make it: not when he has left, or may no longer give the role.
"""

from __future__ import annotations

from datetime import timedelta
from functools import reduce
from operator import or_

from allauth.account.models import EmailAddress
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from billing import audit, members
from billing.errors import RoleTooBroad
from billing.models import Invitation, Membership, Workspace
from billing.permissions import Action, Grant, grant_of_role, may_give

LIFETIME = timedelta(hours=24)

_MAIL = """{inviter} invites you to the workspace {workspace}, as {role}.

{link}

The invitation ends on {end} UTC. Sign in, or sign up, with this mail address to accept it.
"""


class InvitationOver(Exception):
    """The invitation was accepted, withdrawn, not accepted in time, or is of somebody who could not make it now."""


def invite(workspace: Workspace, email: str, role: Membership.Role, *, inviter: User, link: str, actor: str) -> Invitation:
    """Offer a role to an address, and mail it `link`, in which `{id}` is the invitation's.

    Raises ValidationError, and RoleTooBroad for a role that the inviter may not give.
    """
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError as error:
        raise ValidationError({"email": error.messages}) from error
    if role == Membership.Role.OWNER:
        raise ValidationError({"role": "The ownership is transferred by the owner."})
    with transaction.atomic():
        # Of two at once the later one takes the place of the earlier one.
        _lock(workspace)
        if not members.list_members(workspace).filter(user=inviter, role__in=_givers(role)).exists():
            raise RoleTooBroad(role.label)
        people = EmailAddress.objects.filter(email__iexact=email, verified=True).values("user")
        if members.list_members(workspace).filter(user__in=people).exists():
            raise ValidationError({"email": "This person is a member already."})
        now = timezone.now()
        _open(workspace).filter(email=email).update(withdrawn_at=now)
        invitation = Invitation.objects.create(
            workspace=workspace, email=email, role=role, invited_by=inviter, expires_at=now + LIFETIME
        )
        details = {"email": email, "role": role.value}
        audit.record("member.invited", actor=actor, workspace=workspace, target=invitation.public_id, details=details)
        transaction.on_commit(lambda: _send(invitation, link.format(id=invitation.public_id)))
    return invitation


def list_open(workspace: Workspace) -> QuerySet[Invitation]:
    """What was offered and not answered yet, what nobody accepted in time included."""
    return _open(workspace).select_related("invited_by").order_by("-pk")


def list_offers(user: User) -> QuerySet[Invitation]:
    """What this person could accept now."""
    addresses = EmailAddress.objects.filter(user=user, verified=True).values_list("email", flat=True)
    is_open = Invitation.objects.filter(accepted_at__isnull=True, withdrawn_at__isnull=True, expires_at__gt=timezone.now())
    own = is_open.filter(_stands(), email__in=[address.lower() for address in addresses])
    return own.select_related("workspace", "invited_by")


def accept(invitation: Invitation, user: User) -> Membership:
    """Make the person a member. Raises InvitationOver, also for an invitation to another address, and ValidationError."""
    with transaction.atomic():
        # Nobody changes what the inviter may until the person is a member.
        _lock(invitation.workspace)
        offer = list_offers(user).select_for_update(of=("self",)).filter(pk=invitation.pk).first()
        if offer is None:
            raise InvitationOver
        actor = f"user:{user.get_username()}"
        member = members.add_member(offer.workspace, user, Membership.Role(offer.role), actor=actor)
        Invitation.objects.filter(pk=offer.pk).update(accepted_at=timezone.now())
    return member


def withdraw(invitation: Invitation, *, actor: str) -> bool:
    """Take the offer back. False if it was answered already."""
    with transaction.atomic():
        if not _open(invitation.workspace).filter(pk=invitation.pk).update(withdrawn_at=timezone.now()):
            return False
        details = {"email": invitation.email}
        target, workspace = invitation.public_id, invitation.workspace
        audit.record("member.invitation_withdrawn", actor=actor, workspace=workspace, target=target, details=details)
    return True


def _stands() -> Q:
    """Invitations whose inviter could make them now."""
    inviters = Membership.objects.filter(workspace=OuterRef("workspace"), user=OuterRef("invited_by"), removed_at__isnull=True)
    roles = Membership.Role.values
    return reduce(or_, (Q(Exists(inviters.filter(role__in=_givers(role))), role=role) for role in roles))


def _givers(role: str) -> list[str]:
    """Whose roles allow to invite people to this one."""
    inviting = [one for one in Membership.Role.values if grant_of_role(Action.ADD_MEMBERS, one) is not Grant.NONE]
    return [one for one in inviting if may_give(one, role)]


def _lock(workspace: Workspace) -> None:
    list(Workspace.objects.select_for_update(no_key=True).filter(pk=workspace.pk).values_list("pk"))


def _open(workspace: Workspace) -> QuerySet[Invitation]:
    return workspace.invitations.filter(accepted_at__isnull=True, withdrawn_at__isnull=True)


def _send(invitation: Invitation, link: str) -> None:
    workspace = invitation.workspace.name
    text = _MAIL.format(
        inviter=invitation.invited_by.get_username(),
        workspace=workspace,
        role=invitation.get_role_display(),
        link=link,
        end=f"{invitation.expires_at:%a %d %b %Y, %H:%M}",
    )
    send_mail(f"Invitation to {workspace}", text, None, [invitation.email])
