"""Budgets: what a key, a member or a workspace may spend in a period.

This module writes limits only; `spent` and `held` are the ledger's, which checks every budget above a key in the
transaction of the hold. A budget counts from the moment it was first set: one that is taken away is lifted, and goes on
counting, so that nobody begins a period anew by setting it again.

The budgets of a key are its family's: a key that is rolled goes on spending what it spends, and while both keys work they
spend it together. The monthly one follows the limits (`billing.quotas`): `max_budget_monthly_microcredits` of the keys
themselves is one layer of them, their preset another, and both are the same for all keys of a family. Whoever changes a
layer calls `follow` for the keys below it, after the change and in its transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet

from billing import audit, quotas
from billing.ceilings import ceilings_after, workspace_limit_after
from billing.errors import LimitOfAnother
from billing.models import ApiKey, AuditEvent, Budget, Membership, QuotaPreset, Workspace
from billing.models.keys import FIRST_ID
from billing.pricing import MAX_MICROCREDITS

Subject = ApiKey | Membership | Workspace

BUDGET_LIMIT: Final = "max_budget_monthly_microcredits"


def set_budget(
    subject: Subject,
    *,
    period: Budget.Period,
    limit_microcredits: int | None,
    actor: str,
    reason: str = "",
    is_bound: bool = False,
) -> Budget | None:
    """Limit what `subject` may spend in a period; None takes the limit away. The budget in force, if there is one.

    A key's monthly budget is never above what its presets and plan allow. `is_bound`: who sets it may act on his own keys
    only, so what others have set is his ceiling; or belongs to the workspace that is limited, whose ceiling staff set.
    Raises ValidationError for an amount that cannot be, LimitOfAnother and LimitOfStaff.
    """
    if limit_microcredits is not None and not 0 <= limit_microcredits <= MAX_MICROCREDITS:
        raise ValidationError({"limit": "A budget is 0 credits or more."})
    workspace = subject if isinstance(subject, Workspace) else subject.workspace
    scope, scope_id = _scope_of(subject)
    with transaction.atomic():
        if isinstance(subject, ApiKey) and period == Budget.Period.MONTH:
            keys = lock_family(subject)
            keys.update(max_budget_monthly_microcredits=limit_microcredits)
            try:
                set_ceilings(keys, {BUDGET_LIMIT: limit_microcredits}, is_bound=is_bound)
            except LimitOfAnother as refusal:
                raise LimitOfAnother("limit") from refusal
            follow(keys)
        elif isinstance(subject, Workspace):
            _set_of_workspace(subject, period, limit_microcredits, is_bound=is_bound)
        else:
            _write(scope, scope_id, period, limit_microcredits)
            _set_ceiling(
                Budget.every.filter(scope=scope, scope_id=scope_id, period=period), limit_microcredits, is_bound=is_bound
            )
        details = {"scope": scope.value, "period": Budget.Period(period).value, "limit_microcredits": limit_microcredits}
        audit.record("budget.set", actor=actor, workspace=workspace, target=subject.public_id, reason=reason, details=details)
    return Budget.objects.filter(scope=scope, scope_id=scope_id, period=period).first()


def set_ceilings(keys: QuerySet[ApiKey], limits: Mapping[str, int | None], *, is_bound: bool) -> None:
    """Note for keys, which the caller has locked, that these limits were set. Raises LimitOfAnother."""
    for key in keys:
        key.ceilings = ceilings_after(key.ceilings, limits, is_bound=is_bound)
        key.save(update_fields=["ceilings"])


def _set_ceiling(rows: QuerySet[Budget], limit_microcredits: int | None, *, is_bound: bool) -> None:
    """The same for the row of a budget, if there is one; it was written in this transaction."""
    for row in rows:
        before = {} if row.ceiling_microcredits is None else {"limit": row.ceiling_microcredits}
        after = ceilings_after(before, {"limit": limit_microcredits}, is_bound=is_bound) or {}
        rows.update(ceiling_microcredits=after.get("limit"))


def _set_of_workspace(workspace: Workspace, period: Budget.Period, limit_microcredits: int | None, *, is_bound: bool) -> None:
    """Staff and members may set it at once, and it may have no row yet: the workspace is what they wait for."""
    lock(Workspace.objects.filter(pk=workspace.pk))
    rows = Budget.every.filter(scope=Budget.Scope.WORKSPACE, scope_id=workspace.pk, period=period)
    row = rows.first()
    own = None if is_bound else _own_limit(workspace, period)
    ceiling = None if row is None else row.staff_limit_microcredits
    limit, ceiling = workspace_limit_after(own, ceiling, limit_microcredits, is_bound=is_bound)
    _write(Budget.Scope.WORKSPACE, workspace.pk, period, limit)
    rows.update(ceiling_microcredits=ceiling)


def _own_limit(workspace: Workspace, period: Budget.Period) -> int | None:
    """What the workspace set for itself last. The audit trail knows it, also while a tighter limit of staff is in force."""
    events = AuditEvent.objects.filter(workspace=workspace, action="budget.set", details__scope="workspace")
    own = events.filter(Q(actor__startswith="user:") | Q(actor__startswith="key:"), details__period=Budget.Period(period).value)
    last: dict[str, int | None] | None = own.order_by("-pk").values_list("details", flat=True).first()
    return None if last is None else last["limit_microcredits"]


def family_of(key: ApiKey) -> QuerySet[ApiKey]:
    """The keys that rolling made one of the other, ended ones included; the key is one of them."""
    return ApiKey.objects.filter(Q(pk=key.first_id) | Q(family=key.first_id))


def lock_family(key: ApiKey) -> QuerySet[ApiKey]:
    """The same, which nobody else changes until the transaction ends: the workspace first, as whoever revokes keys does."""
    keys = family_of(key)
    lock_workspaces(keys)
    lock(keys)
    return keys


def list_budgets(workspace: Workspace, *, of_member: Membership | None = None) -> QuerySet[Budget]:
    """The budgets of a workspace, its members and its keys; or only those of one member and his keys."""
    keys, members = workspace.api_keys.all(), workspace.memberships.all()
    if of_member is not None:
        keys, members = keys.filter(owner=of_member), members.filter(pk=of_member.pk)
    chosen = Q(scope=Budget.Scope.KEY, scope_id__in=keys.values("pk"))
    chosen |= Q(scope=Budget.Scope.MEMBER, scope_id__in=members.values("pk"))
    if of_member is None:
        chosen |= Q(scope=Budget.Scope.WORKSPACE, scope_id=workspace.pk)
    return Budget.objects.filter(chosen)


def follow(keys: QuerySet[ApiKey]) -> None:
    """Give each of these keys the monthly budget that its limits ask for, or none.

    Call it after the change, in the transaction of the change, which begins with `lock_workspaces` if it is more than one
    row: so of two changes at once the later one reads what both of them wrote. Of a family any key will do.
    """
    with transaction.atomic():
        lock_workspaces(keys)
        lock(QuotaPreset.objects.filter(_of_layers(keys)))
        # In the order in which the ledger takes them.
        lock(Budget.every.filter(scope=Budget.Scope.KEY, period=Budget.Period.MONTH, scope_id__in=keys.values(first=FIRST_ID)))
        for key in keys.select_related(*quotas.KEY_LAYERS).iterator():
            limit = quotas.of_key(key).max_budget_monthly_microcredits.value
            _write(Budget.Scope.KEY, key.first_id, Budget.Period.MONTH, limit)


def follow_all() -> None:
    """The same for every key that can still be used, after `settings.PLATFORM_LIMITS` changed."""
    follow(ApiKey.objects.filter(revoked_at__isnull=True))


def lock_workspaces(keys: QuerySet[ApiKey]) -> None:
    """Let nobody else change what limits these keys, until the transaction ends. Requests go on."""
    lock(Workspace.objects.filter(pk__in=keys.values("workspace")))


def _of_layers(keys: QuerySet[ApiKey]) -> Q:
    return Q(pk__in=keys.values("preset")) | Q(pk__in=keys.values("owner__preset")) | Q(pk__in=keys.values("workspace__plan"))


def lock(rows: QuerySet[Any]) -> None:
    """Waits for the rows, in the order of their ids. Rows that name them by foreign key can be written meanwhile."""
    list(rows.order_by("pk").select_for_update(no_key=True).values_list("pk"))


def _write(scope: Budget.Scope, scope_id: int, period: Budget.Period, limit_microcredits: int | None) -> None:
    """One statement, which leaves what the ledger writes alone."""
    if limit_microcredits is None:
        rows = Budget.every.filter(scope=scope, scope_id=scope_id, period=period)
        rows.update(limit_microcredits=MAX_MICROCREDITS, is_lifted=True)
        return
    Budget.every.bulk_create(
        [Budget(scope=scope, scope_id=scope_id, period=period, limit_microcredits=limit_microcredits)],
        update_conflicts=True,
        unique_fields=["scope", "scope_id", "period"],
        update_fields=["limit_microcredits", "is_lifted"],
    )


def _scope_of(subject: Subject) -> tuple[Budget.Scope, int]:
    if isinstance(subject, ApiKey):
        return Budget.Scope.KEY, subject.first_id
    return Budget.Scope.MEMBER if isinstance(subject, Membership) else Budget.Scope.WORKSPACE, subject.pk
