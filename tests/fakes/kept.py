"""The ways in which this machine can keep a child: in a box where it has one, and always without."""

from __future__ import annotations

import msgspec

from files.sandbox import Protection, current_protection

BEST = current_protection()
UNBOXED = msgspec.structs.replace(BEST, is_boxed=False)
WAYS: dict[str, Protection] = {"boxed": BEST, "unboxed": UNBOXED} if BEST.is_boxed else {"unboxed": UNBOXED}
