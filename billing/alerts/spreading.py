"""Gives each notice to whom it is for: a task for each mail, and one for each webhook. A chore of housekeeping; what it cannot do now it does next time.

The tasks are enqueued in the transaction that says the notice was spread, so that it is spread once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from allauth.account.models import EmailAddress
from django.db import transaction
from django.utils import timezone

from billing.alerts.mailing import mail_notice
from billing.alerts.terms import list_recipients, recipients_of
from billing.models import AlertTerms, Membership, Notice
from billing.webhooks import deliveries

MOST_NOTICES: Final = 200
KEPT_FOR: Final = timedelta(days=90)
_PURGE_ROWS: Final = 2_000


def spread() -> int:
    """How many notices were given away; a bounded number."""
    waiting = Notice.objects.filter(spread_at__isnull=True).select_related("workspace").order_by("pk")
    return sum(_spread(notice) for notice in waiting[:MOST_NOTICES])


def purge() -> int:
    """Delete notices that are old enough, a bounded number of them. Gives how many."""
    old = Notice.objects.filter(created_at__lt=timezone.now() - KEPT_FOR, spread_at__isnull=False).order_by("created_at")
    return Notice.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:_PURGE_ROWS])).delete()[0]


def _spread(notice: Notice) -> bool:
    with transaction.atomic():
        if not Notice.objects.filter(pk=notice.pk, spread_at__isnull=True).update(spread_at=timezone.now()):
            return False
        for address in _addresses(notice):
            mail_notice.enqueue(notice.pk, address)
        deliveries.queue(notice)
    return True


def _addresses(notice: Notice) -> list[str]:
    """Where the mails go: to addresses that people have proved to be theirs."""
    recipients = recipients_of(AlertTerms.objects.filter(workspace=notice.workspace_id).first())
    current = Membership.objects.filter(workspace=notice.workspace_id, removed_at__isnull=True, user__is_active=True)
    chosen = list_recipients(notice, current.order_by("pk"), recipients)
    verified = EmailAddress.objects.filter(user__in=[member.user_id for member in chosen], verified=True)
    # Of somebody with several the primary one, which comes last here and so stays.
    addresses = {address.user_id: address.email for address in verified.order_by("primary", "pk")}
    return sorted(set(addresses.values()))
