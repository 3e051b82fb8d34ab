"""Invitations: a role in a workspace, offered by mail to an address for 24 hours.

Whoever accepts proves that the address is his by an account that has verified it; the link in the mail is therefore no
secret, and says nothing to anybody else. An address has one open invitation in a workspace: a new one takes its place.
An offer stands for as long as whoever made it could make it: not when he has left, or may no longer give the role.

Anybody may sign up, so mails to others are few: MOST_A_DAY for a workspace, and for a person in all of his, and one to an
address from each workspace AGAIN_AFTER the last; not from all of them, or strangers could keep somebody's invitations away.
What was withdrawn or replaced counts too. A task sends them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Final, NamedTuple

from allauth.account.models import EmailAddress
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.urls import reverse
from django.utils import timezone
from django_tasks import task

from billing import audit, mails, members
from billing.budgets import lock
from billing.errors import InvitationLimitExceeded, RoleTooBroad
from billing.models import Invitation, Membership, Workspace
from billing.permissions import Action, Grant, grant_of_role, may_give

LIFETIME = timedelta(hours=24)
DAY: Final = timedelta(days=1)
MOST_A_DAY: Final = 20
AGAIN_AFTER: Final = timedelta(hours=1)

_SUBJECT: Final = "Invitation to a workspace"
_MAIL = """{inviter} invites you to the workspace {workspace}, as {role}.

{link}

The invitation ends on {end} UTC. Sign in, or sign up, with this mail address to accept it.
"""


class InvitationOver(Exception):
    """The invitation was accepted, withdrawn, not accepted in time, or is of somebody who could not make it now."""


class Sent(NamedTuple):
    """An invitation that was mailed before."""

    workspace_id: int
    inviter_id: int
    email: str
    at: datetime


def link_on(address_of: Callable[[str], str]) -> str:
    """The link for `invite`, on the host of a request, whose `build_absolute_uri` this takes."""
    # As the address of the page: it may be read by nobody else.
    return address_of(reverse("console-invitation", args=["INVITATION"])).replace("INVITATION", "{id}")


def free_at(sent: Sequence[Sent], workspace_id: int, inviter_id: int, email: str, now: datetime) -> datetime | None:
    """When the address may be sent an invitation, None: at once; by what was sent before, the newest first (pure)."""
    by_workspace = [one.at for one in sent if one.workspace_id == workspace_id]
    by_person = [one.at for one in sent if one.inviter_id == inviter_id]
    to_address = [one.at for one in sent if one.workspace_id == workspace_id and one.email == email]
    ends = [times[MOST_A_DAY - 1] + DAY for times in (by_workspace, by_person) if len(times) >= MOST_A_DAY]
    ends += [at + AGAIN_AFTER for at in to_address[:1]]
    return max((end for end in ends if end > now), default=None)


def invite(workspace: Workspace, email: str, role: Membership.Role, *, inviter: User, link: str, actor: str) -> Invitation:
    """Offer a role to an address, and mail it `link`, in which `{id}` is the invitation's.

    Raises ValidationError, RoleTooBroad for a role that the inviter may not give, and InvitationLimitExceeded.
    """
    email = email.strip().lower()
    try:
        Invitation._meta.get_field("email").clean(email, None)
    except ValidationError as error:
        raise ValidationError({"email": error.messages}) from error
    if role == Membership.Role.OWNER:
        raise ValidationError({"role": "The ownership is transferred by the owner."})
    with transaction.atomic():
        # Of two at once the later one takes the place of the earlier one.
        lock(Workspace.objects.filter(pk=workspace.pk))
        # Nor does anybody invite in two of his workspaces at once, so that what was sent can be counted.
        lock(User.objects.filter(pk=inviter.pk))
        if not members.list_members(workspace).filter(user=inviter, role__in=_givers(role)).exists():
            raise RoleTooBroad(role.label)
        if Workspace.objects.filter(pk=workspace.pk, state=Workspace.State.CLOSED).exists():  # while the lock was waited for
            raise ValidationError("The workspace is closed.")
        people = EmailAddress.objects.filter(email__iexact=email, verified=True).values("user")
        if members.list_members(workspace).filter(user__in=people).exists():
            raise ValidationError({"email": "This person is a member already."})
        now = timezone.now()
        _check_limits(workspace, email, inviter, now)
        _open(workspace).filter(email=email).update(withdrawn_at=now)
        invitation = Invitation.objects.create(
            workspace=workspace, email=email, role=role, invited_by=inviter, expires_at=now + LIFETIME
        )
        details = {"email": email, "role": role.value}
        audit.record("member.invited", actor=actor, workspace=workspace, target=invitation.public_id, details=details)
        mail_invitation.enqueue(invitation.pk, link.format(id=invitation.public_id))
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
        lock(Workspace.objects.filter(pk=invitation.workspace_id))
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
    """Invitations whose inviter could make them now: nobody could into a workspace that is closed."""
    inviters = Membership.objects.filter(workspace=OuterRef("workspace"), user=OuterRef("invited_by"), removed_at__isnull=True)
    roles = Membership.Role.values
    by_role = reduce(or_, (Q(Exists(inviters.filter(role__in=_givers(role))), role=role) for role in roles))
    return by_role & ~Q(workspace__state=Workspace.State.CLOSED)


def _givers(role: str) -> list[str]:
    """Whose roles allow to invite people to this one."""
    inviting = [one for one in Membership.Role.values if grant_of_role(Action.ADD_MEMBERS, one) is not Grant.NONE]
    return [one for one in inviting if may_give(one, role)]


def _open(workspace: Workspace) -> QuerySet[Invitation]:
    return workspace.invitations.filter(accepted_at__isnull=True, withdrawn_at__isnull=True)


def _check_limits(workspace: Workspace, email: str, inviter: User, now: datetime) -> None:
    rows = Invitation.objects.filter(Q(workspace=workspace) | Q(invited_by=inviter), created_at__gt=now - DAY)
    columns = rows.order_by("-created_at").values_list("workspace_id", "invited_by_id", "email", "created_at")
    end = free_at([Sent(*row) for row in columns], workspace.pk, inviter.pk, email, now)
    if end is not None:
        again_at = f"{end.astimezone(UTC):%d %b %Y, %H:%M:%S} UTC".lstrip("0")
        raise InvitationLimitExceeded(MOST_A_DAY, again_at, retry_after_s=math.ceil((end - now).total_seconds()))


@task()
def mail_invitation(invitation_id: int, link: str, attempt: int = 0) -> None:
    is_open = Q(accepted_at__isnull=True, withdrawn_at__isnull=True, expires_at__gt=timezone.now())
    rows = Invitation.objects.select_related("workspace", "invited_by")
    invitation = rows.filter(is_open, _stands(), pk=invitation_id).first()
    if invitation is None:
        return  # Its link would open nothing.
    wait = mails.send(_SUBJECT, _text(invitation, link), invitation.email, attempt=attempt, about=invitation.public_id)
    if wait is not None:
        mail_invitation.using(run_after=timezone.now() + wait).enqueue(invitation_id, link, attempt + 1)


def _text(invitation: Invitation, link: str) -> str:
    return _MAIL.format(
        inviter=mails.quoted_name(invitation.invited_by.get_username()),
        workspace=mails.quoted_name(invitation.workspace.name),
        role=invitation.get_role_display(),
        link=link,
        end=f"{invitation.expires_at:%a %d %b %Y, %H:%M}",
    )
