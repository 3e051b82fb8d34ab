"""The monthly credits of plans: once for each month of a workspace, at its beginning.

The months of a workspace begin at 00:00 UTC on the day of the month on which it got a plan with credits, in shorter months
on their last day. The credits of a month expire at its end; where the plan lets them roll over, at the end of the next
one, and of what is left at the end of their own no more goes on than the plan's maximum. A lot keeps the expiry it was
given with, whatever becomes of the plan.

A month gets its credits once. So a plan that is changed, or taken away and given back, has effect on credits from the
next renewal; only after a time without is there a new first month. Months that went by while nobody renewed (the gateway
was down, the workspace suspended) are not made up for: the current one gets its credits, in full.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from billing.ledger import transfers
from billing.models import Entry, QuotaPreset, Workspace
from billing.moments import month_around

log = structlog.get_logger(__name__)

ACTOR: Final = "housekeeping"
# More waits for the next pass, so that the sweep comes round in time.
MOST_WORKSPACES: Final = 500
# To whoever stops himself nothing is lost.
RENEWED: Final = (Workspace.State.ACTIVE, Workspace.State.STOPPED)


def is_due(now: datetime) -> bool:
    return _due(now).exists()


def _due(now: datetime) -> QuerySet[Workspace]:
    return Workspace.objects.filter(
        Q(plan_renews_at__isnull=True) | Q(plan_renews_at__lte=now),
        plan__monthly_microcredits__isnull=False,
        state__in=RENEWED,
    )


def renew_plans(now: datetime) -> int:
    """Give the plan credits that are due, to a bounded number of workspaces. A chore of housekeeping; gives how many."""
    renewed = 0
    for workspace_id in list(_due(now).order_by("plan_renews_at", "pk").values_list("pk", flat=True)):
        try:
            renewed += renew(workspace_id, now) is not None
        except (transfers.TransferError, IntegrityError):
            # One workspace that is not in order keeps no other from its turn.
            log.exception("plan credits could not be given", workspace=workspace_id)
        if renewed == MOST_WORKSPACES:
            break
    if renewed:
        log.info("plan credits given", count=renewed)
    return renewed


def renew(workspace_id: int, now: datetime) -> Entry | None:
    """Give the credits of the current month if they are due. Raises TransferError if they cannot be kept."""
    with transaction.atomic():
        workspace = _lock(workspace_id)
        plan, renews_at = workspace.plan, workspace.plan_renews_at
        if plan is None or plan.monthly_microcredits is None or workspace.state not in RENEWED:
            return None
        if renews_at is not None and renews_at > now:
            return None
        day = workspace.renewal_day or now.astimezone(UTC).day
        month = month_around(now, day)
        if plan.max_rollover_microcredits is not None:
            transfers.limit_rollover(workspace, plan.max_rollover_microcredits, now, actor=ACTOR)
        entry = transfers.renew_plan(
            workspace,
            plan.monthly_microcredits,
            period=f"{month.start:%Y-%m-%d}",
            expires_at=month_around(month.end, day).end if plan.has_rollover else month.end,
            actor=ACTOR,
            reason=f"{plan.name}: {month.start:%Y-%m-%d} to {month.end:%Y-%m-%d}",
        )
        Workspace.objects.filter(pk=workspace_id).update(plan_renews_at=month.end, renewal_day=day)
        return entry


def change_plan(workspace: Workspace, plan: QuotaPreset | None, now: datetime) -> None:
    """Set the plan of a workspace, and give its credits if they are due. The workspace is locked until the transaction ends.

    Raises TransferError if they cannot be kept.
    """
    with transaction.atomic():
        before = _lock(workspace.pk)
        had_credits = before.plan is not None and before.plan.monthly_microcredits is not None
        changes: dict[str, object] = {"plan": plan}
        if not had_credits and before.plan_renews_at is not None and before.plan_renews_at <= now:
            # The last month that had credits is over.
            changes |= {"plan_renews_at": None, "renewal_day": None}
        Workspace.objects.filter(pk=workspace.pk).update(**changes)
        renew(workspace.pk, now)


def next_renewal(workspace: Workspace) -> datetime | None:
    """When credits come next to a workspace that was loaded with its plan; None where none do, as things are."""
    plan = workspace.plan
    is_renewed = workspace.state in RENEWED and plan is not None and plan.monthly_microcredits is not None
    return workspace.plan_renews_at if is_renewed else None


def _lock(workspace_id: int) -> Workspace:
    """The workspace with its plan. Rows that name it by foreign key can be written meanwhile."""
    rows = Workspace.objects.select_for_update(no_key=True, of=("self",)).select_related("plan")
    return rows.get(pk=workspace_id)
