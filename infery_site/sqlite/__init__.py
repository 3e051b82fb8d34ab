"""How SQLite's write lock is waited for: by asking often.

SQLite's own wait sleeps between two tries, longer and longer, up to a tenth of a second. Beside somebody who writes one
transaction after another it comes too late each time, and gives up in the end: what a person saves, or a chore, fails.

    base.py     Django's backend with this wait, by the name that Django looks for
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

WAIT_MOST_S: Final = 5.0
_AGAIN_AFTER_S: Final = 0.001
# Another reason of being busy is that the transaction itself is too old, which no wait mends.
_LOCKED: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY}


def patiently(work: Callable[[], T], most_s: float) -> T:
    """What `work` gives, which has done nothing where the database is locked, and is asked again for so long.

    Raises sqlite3.OperationalError. The connection's own `busy_timeout` should be 0.
    """
    ends_s = 0.0
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in _LOCKED:
                raise
            now_s = time.monotonic()
            ends_s = ends_s or now_s + most_s
            if now_s >= ends_s:
                raise
        time.sleep(_AGAIN_AFTER_S)
