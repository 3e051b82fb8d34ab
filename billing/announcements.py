"""Announcements: who sees which, and what staff and readers do with them.

An announcement is plain text. It is shown from its start until its end, in the workspaces that it is for, to everybody who
has not put it away; and to all staff.
"""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Case, Exists, OuterRef, Q, QuerySet, Value, When

from billing import audit
from billing.models import Announcement, Dismissal, Membership
from billing.moments import moment_text

SHOWN_MOST = 5
"""What a page has room for; the rest follows when these are put away or over."""

_GRAVEST_FIRST = Case(
    When(severity=Announcement.Severity.CRITICAL, then=Value(0)),
    When(severity=Announcement.Severity.WARNING, then=Value(1)),
    default=Value(2),
)


def checked_text(text: str) -> str:
    """The text without white space around it. Raises ValidationError for characters that no plain text has."""
    text = "\n".join(line.rstrip() for line in text.strip().splitlines())
    if not all(character.isprintable() or character == "\n" for character in text):
        raise ValidationError("The text has characters that cannot be shown.")
    return text


def current(now: datetime) -> QuerySet[Announcement]:
    """All that are shown at a moment, the gravest and newest first."""
    lasting = Q(ends_at__isnull=True) | Q(ends_at__gt=now)
    return Announcement.objects.filter(lasting, starts_at__lte=now).order_by(_GRAVEST_FIRST, "-starts_at", "-pk")


def meant_for(member: Membership, now: datetime) -> QuerySet[Announcement]:
    """What is shown in the workspace of a member."""
    workspace = member.workspace
    meant = Q(audience="all") | Q(workspace=workspace.pk)
    if workspace.plan_id is not None:
        meant |= Q(plan=workspace.plan_id)
    return current(now).filter(meant)


def shown_to(member: Membership, now: datetime) -> QuerySet[Announcement]:
    """The same without what he has put away."""
    put_away = Dismissal.objects.filter(announcement=OuterRef("pk"), user=member.user_id)
    return meant_for(member, now).filter(~Exists(put_away))


def dismiss(announcement: Announcement, user: User) -> None:
    """Show it to this person no more; harmless to repeat."""
    Dismissal.objects.get_or_create(announcement=announcement, user=user)


def publish(announcement: Announcement, *, actor: str) -> None:
    """Keep a new announcement, or the changes of one, whose fields have been checked. A new text comes before all again."""
    verb = "changed" if announcement.pk else "published"
    with transaction.atomic():
        if not Announcement.objects.filter(pk=announcement.pk, text=announcement.text).exists():
            Dismissal.objects.filter(announcement=announcement.pk).delete()
        announcement.save()
        details = {
            "text": announcement.text,
            "severity": announcement.severity,
            "audience": announcement.audience,
            "plan": announcement.plan.public_id if announcement.plan else None,
            "starts_at": moment_text(announcement.starts_at),
            "ends_at": moment_text(announcement.ends_at) if announcement.ends_at else None,
        }
        audit.record(
            f"announcement.{verb}",
            actor=actor,
            workspace=announcement.workspace,
            target=announcement.public_id,
            details=details,
        )


def end(announcement: Announcement, now: datetime, *, actor: str) -> None:
    """Show it no more from now on, to nobody; one that has not begun never is."""
    with transaction.atomic():
        announcement.ends_at = max(now, announcement.starts_at)
        announcement.save(update_fields=["ends_at"])
        audit.record("announcement.ended", actor=actor, workspace=announcement.workspace, target=announcement.public_id)
