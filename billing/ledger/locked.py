"""Which accounts somebody keeps locked, as opposed to using them for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from billing.ledger.effects import Engine

LOOKS: Final = 4
LOOK_AGAIN_AFTER_S: Final = 0.025
"""An account that is in use now and then is seen to be free by one of so many looks; one that is kept locked by none."""


async def kept_locked(engine: Engine, accounts: Iterable[int]) -> set[int] | None:
    """Those of the accounts that are locked whenever it is looked; None if the database cannot be asked."""
    kept = set(accounts)
    for _ in range(LOOKS):
        [locked] = await asyncio.gather(engine.locked(sorted(kept)), return_exceptions=True)
        if isinstance(locked, BaseException):
            return None
        kept &= locked
        if not kept:
            break
        await asyncio.sleep(LOOK_AGAIN_AFTER_S)
    return kept
