"""Limits that bind those who may act on their own keys only: what somebody with the right over the workspace has set (pure).

Who may act on every key sets a limit and with it its ceiling; he who may not (`billing.permissions` says who) sets limits of his
own below it, makes them tighter and looser again, and can neither cross the ceiling nor take it away.
"""

from __future__ import annotations

from collections.abc import Mapping

from billing.errors import LimitOfAnother


def ceilings_after(
    ceilings: Mapping[str, int] | None, limits: Mapping[str, int | None], *, is_bound: bool
) -> dict[str, int] | None:
    """The ceilings once these limits, by column, are set by one who is bound by them, or is not. None stands for none.

    Raises LimitOfAnother, which names the column.
    """
    after = dict(ceilings or {})
    for column, limit in limits.items():
        if not is_bound:
            after.pop(column, None)
            if limit is not None:
                after[column] = limit
        elif column in after and (limit is None or limit > after[column]):
            raise LimitOfAnother(column)
    return after or None
