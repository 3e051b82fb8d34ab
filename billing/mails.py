"""One mail of a task, tried again for hours, and how words that somebody chose stand in it.

A subject has none of them: whoever names a workspace or a key would write to others in the name of this gateway. In a text
they are one line, and no mail program makes a link of them.
"""

from __future__ import annotations

import re
import smtplib
from datetime import timedelta
from typing import Final

import structlog
from anymail.exceptions import AnymailError
from django.core.mail import send_mail

log = structlog.get_logger(__name__)

RETRY_AFTER: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 360))
MOST_OF_A_NAME: Final = 60

# What mail programs look for: a dot before letters (browsers take the others for dots too), and the colon of a scheme.
_LINKED: Final = re.compile(r"[.\u3002\uff0e\uff61](?=[^\W\d_])|(?<=\w):(?=[^\s\d])|(?<=[^\W\d_]):(?=\d)")


def send(subject: str, text: str, address: str, *, attempt: int, about: str) -> timedelta | None:
    """Mail this, for the `attempt`th time after the first: None, or after how long to try again. `about` is for the log."""
    try:
        send_mail(subject, text, None, [address])
    except (OSError, smtplib.SMTPException, AnymailError) as error:
        if attempt >= len(RETRY_AFTER):
            log.exception("a mail could not be sent", about=about)
            return None
        log.warning("a mail waits", about=about, attempt=attempt, cause=type(error).__name__)
        return RETRY_AFTER[attempt]
    return None


def unlinked(text: str) -> str:
    """The text in one line, of which nothing can be clicked: `https://evil.example` is `https[:]//evil[.]example`."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return _LINKED.sub(lambda found: f"[{found[0]}]", line)


def quoted_name(name: str) -> str:
    """A name that somebody chose, as it stands in a text: in quotes, and short."""
    shown = name if len(name) <= MOST_OF_A_NAME else f"{name[:MOST_OF_A_NAME].rstrip()}…"
    words = unlinked(shown).replace('"', "'")
    return f'"{words}"'
