"""The gateway's own settings with less patience for bodies that do not arrive."""

from infery_site.settings import *  # noqa: F403 - all of them, and two changed

BODY_CHUNK_TIMEOUT_S = 0.5
BODY_TOTAL_TIMEOUT_S = 1.2
