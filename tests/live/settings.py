"""The gateway's own settings with shorter waits, so that the live suite can see a keep-alive comment without patience.

The machine may be busy, and hundreds ask at once: the database has time to answer.
Targets fail here by the hundred, each for a test of its own: no breaker opens, and retries have no budget.
"""

import os

from infery_site.settings import *  # noqa: F403 - all of them, and some changed

KEEP_ALIVE_FIRST_S = 2.0
KEEP_ALIVE_EVERY_S = 0.4
DATABASE_ANSWER_S = 30.0
BREAKER_FAILURES = EXTRA_CALLS_ALWAYS = 1_000_000
if EMAIL_FILE_PATH := os.environ.get("TESTS_MAILS"):  # where no mail is to stand in the log
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
