"""The gateway's own settings with shorter waits, so that the live suite can see a keep-alive comment without patience."""

from infery_site.settings import *  # noqa: F403 - all of them, and two changed

KEEP_ALIVE_FIRST_S = 2.0
KEEP_ALIVE_EVERY_S = 0.4
