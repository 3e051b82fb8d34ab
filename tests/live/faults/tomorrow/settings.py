"""The gateway's own settings and one migration more, for the process that migrates while others serve."""

from infery_site.settings import *  # noqa: F403 - all of them, and one changed
from infery_site.settings import INSTALLED_APPS as TODAY

INSTALLED_APPS = [*TODAY, "tests.live.faults.tomorrow"]
