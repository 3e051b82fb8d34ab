"""What housekeeping does for the apps above billing: what is purged, by its name, and who reads the facts of alerts.

The lists of a serving process and of `manage.py housekeeping` are these.
"""

from __future__ import annotations

from typing import Final

from billing.alerts.watching import Sources, Watch
from billing.housekeeping import Chores
from chat import states
from chat.deprecations import Deprecations
from files import pages, purging, room

CHORES: Final[Chores] = {"provider states": states.purge, "files": purging.purge, "conversions": pages.purge}


def new_watch() -> Watch:
    return Watch(Sources(quotas=room.quota_facts, models=Deprecations().read))
