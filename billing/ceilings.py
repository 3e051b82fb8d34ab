"""Limits that bind those who may act on their own keys only: what somebody with the right over the workspace has set (pure).

Who may act on every key sets a limit and with it its ceiling; he who may not (`billing.permissions` says who) sets limits of his
own below it, makes them tighter and looser again, and can neither cross the ceiling nor take it away.

What a workspace may spend as a whole is bound in the same way by what staff set: that is the ceiling of all its members and keys.
"""

from __future__ import annotations

from collections.abc import Mapping

from billing.errors import LimitOfAnother, LimitOfStaff


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


def workspace_limit_after(
    own: int | None, ceiling: int | None, wanted: int | None, *, is_bound: bool
) -> tuple[int | None, int | None]:
    """The limit in force, and that of staff, which is its ceiling, once `wanted` is set; None stands for none.

    `own` is what the workspace has set for itself. `is_bound`: a member or a key of the workspace sets it, and moves its own
    below the ceiling. Staff move the ceiling, and leave what is the workspace's own. Raises LimitOfStaff.
    """
    if not is_bound:
        ceiling = wanted
    elif ceiling is not None and wanted is not None and wanted > ceiling:
        raise LimitOfStaff(ceiling)
    else:
        own = wanted
    return min((one for one in (own, ceiling) if one is not None), default=None), ceiling
