"""The task that mails one notice to one address. What keeps the mail from going out now is tried again for some hours."""

from __future__ import annotations

import smtplib
from datetime import timedelta
from typing import Final

import structlog
from anymail.exceptions import AnymailError
from django.conf import settings
from django.core.mail import send_mail
from django.utils import timezone
from django_tasks import task

from billing.models import Notice

log = structlog.get_logger(__name__)

RETRY_AFTER: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 360))

_MAIL = """{text}
{link}
You get this mail as a member of {workspace}. Whoever may set its alerts says who gets which.
"""


@task()
def mail_notice(notice_id: int, address: str, attempt: int = 0) -> None:
    notice = Notice.objects.select_related("workspace").filter(pk=notice_id).first()
    if notice is None:
        return  # It was purged meanwhile: nobody needs it any more.
    try:
        # Names that people chose are part of it; a subject is one line.
        send_mail(" ".join(notice.title.split()), _text(notice), None, [address])
    except (OSError, smtplib.SMTPException, AnymailError) as error:
        if attempt == len(RETRY_AFTER):
            log.exception("a notice could not be mailed", notice=notice.public_id)
            return
        log.warning("a mail waits", notice=notice.public_id, attempt=attempt, error=type(error).__name__)
        later = mail_notice.using(run_after=timezone.now() + RETRY_AFTER[attempt])
        later.enqueue(notice_id, address, attempt + 1)


def _text(notice: Notice) -> str:
    page = f"{settings.PUBLIC_URL}/console/{notice.workspace.public_id}/{notice.place or 'overview'}"
    link = f"\n{page}\n" if settings.PUBLIC_URL else ""
    return _MAIL.format(text=notice.text, link=link, workspace=notice.workspace.name)
