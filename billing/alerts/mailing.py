"""The task that mails one notice to one address. What keeps the mail from going out now is tried again for some hours."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.utils import timezone
from django_tasks import task

from billing import mails
from billing.models import Notice

Kind = Notice.Kind

# What a mail is about: of its data figures and our own words only, since titles have names that people chose.
SUBJECTS: Final[dict[Kind, str]] = {
    Kind.CREDITS_LOW: "Less than {threshold_credits} credits are left",
    Kind.CREDITS_EXPIRING: "{left_credits} credits are about to expire",
    Kind.CREDITS_ADDED: "{credits} credits were added",
    Kind.PAYMENT_FAILED: "A payment of {credits} credits failed",
    Kind.BUDGET_REACHED: "A budget is at {percent} % of its limit",
    Kind.KEY_LIMIT: "A key is at {percent} % of its limit",
    Kind.QUOTA_REACHED: "A quota of files is at {percent} %",
    Kind.FALLBACK_RATE: "{percent} % of the answers came from fallbacks",
    Kind.MODEL_DEPRECATED: "A model that you use is deprecated on {deprecated_on}",
    Kind.KEY_CREATED: "A key was made",
    Kind.KEY_REVOKED: "A key was revoked",
    Kind.WEBHOOK_DISABLED: "A webhook was disabled",
}

_MAIL = """{text}
{link}
You get this mail as a member of {workspace}. Whoever may set its alerts says who gets which.
"""


@task()
def mail_notice(notice_id: int, address: str, attempt: int = 0) -> None:
    notice = Notice.objects.select_related("workspace").filter(pk=notice_id).first()
    if notice is None:
        return  # It was purged meanwhile: nobody needs it any more.
    wait = mails.send(_subject(notice), _text(notice), address, attempt=attempt, about=notice.public_id)
    if wait is not None:
        mail_notice.using(run_after=timezone.now() + wait).enqueue(notice_id, address, attempt + 1)


def _subject(notice: Notice) -> str:
    try:
        return SUBJECTS[Kind(notice.kind)].format_map(notice.data)
    except KeyError:  # An older notice, without the figure.
        return notice.get_kind_display()


def _text(notice: Notice) -> str:
    page = f"{settings.PUBLIC_URL}/console/{notice.workspace.public_id}/{notice.place or 'overview'}"
    link = f"\n{page}\n" if settings.PUBLIC_URL else ""
    return _MAIL.format(text=mails.unlinked(notice.text), link=link, workspace=mails.quoted_name(notice.workspace.name))
