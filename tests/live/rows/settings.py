"""The gateway's own settings with less patience for bodies that do not arrive, and more before a stream speaks."""

from infery_site.settings import *  # noqa: F403 - all of them, and three changed

BODY_CHUNK_TIMEOUT_S = 0.5
BODY_TOTAL_TIMEOUT_S = 1.2
KEEP_ALIVE_FIRST_S = 30.0
