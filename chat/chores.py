"""What housekeeping does for the apps above billing, by the name of what is purged.

The lists of a serving process and of `manage.py housekeeping` are this one.
"""

from __future__ import annotations

from typing import Final

from billing.housekeeping import Chores
from chat import states
from files import pages, purging

CHORES: Final[Chores] = {"provider states": states.purge, "files": purging.purge, "conversions": pages.purge}
