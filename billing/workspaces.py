"""Workspaces: made together with their ledger account, found by what people call them, credited, stopped, suspended, closed, taken back.

Every workspace has its account from the first moment; the rest of the code relies on it. What staff and commands do to a
workspace goes through here, because the audit event of an act is written in the act's own transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from billing import audit, notices
from billing.apikeys import revoke
from billing.apikeys.terms import checked_name, named
from billing.ledger import transfers
from billing.models import Account, ApiKey, Entry, Invitation, Notice, Workspace
from billing.models.workspaces import MOST_TRACE_DAYS
from billing.moments import moment_text
from billing.pricing import credits_text

State = Workspace.State

_TRANSFERS: Mapping[Entry.Kind, Callable[..., Entry]] = {
    Entry.Kind.TOP_UP: transfers.top_up,
    Entry.Kind.GRANT: transfers.grant,
    Entry.Kind.REFUND: transfers.refund,
    Entry.Kind.ADJUSTMENT: transfers.adjust,
}


class WorkspaceNotFound(LookupError):
    """No workspace, or more than one, answers to a reference. The message is for the person who gave it."""


def create_workspace(name: str, *, actor: str) -> Workspace:
    """A new workspace with an empty account. Raises ValidationError for a name that cannot be."""
    with transaction.atomic():
        workspace = Workspace.objects.create(name=checked_name(name))
        transfers.open_account(workspace)
        audit.record("workspace.created", actor=actor, workspace=workspace, target=workspace.public_id)
    return workspace


def rename_workspace(workspace: Workspace, name: str, *, actor: str) -> Workspace:
    """The row as it is then. Raises ValidationError for a name that cannot be."""
    name = named("name", checked_name, name)
    with transaction.atomic():
        workspace = Workspace.objects.select_for_update(no_key=True, of=("self",)).select_related("plan").get(pk=workspace.pk)
        if name != workspace.name:
            details = {"name": [workspace.name, name]}
            audit.record("workspace.renamed", actor=actor, workspace=workspace, target=workspace.public_id, details=details)
            workspace.name = name
            workspace.save(update_fields=["name"])
    return workspace


def get_workspace(reference: str) -> Workspace:
    """The workspace with this public id, or with this name if only one has it. Raises WorkspaceNotFound."""
    by_id = Workspace.objects.filter(public_id=reference).first()
    if by_id is not None:
        return by_id
    by_name = list(Workspace.objects.filter(name=reference).order_by("pk")[:6])
    if not by_name:
        raise WorkspaceNotFound(f"No workspace has the id or the name {reference!r}.")
    if len(by_name) > 1:
        ids = ", ".join(workspace.public_id for workspace in by_name[:5])
        raise WorkspaceNotFound(f"Several workspaces are named {reference!r}; give an id instead: {ids}.")
    return by_name[0]


def transfer_credits(
    workspace: Workspace,
    amount_microcredits: int,
    *,
    kind: Entry.Kind,
    idempotency_key: str,
    actor: str,
    reason: str,
    expires_at: datetime | None = None,
    generation: str = "",
) -> Entry:
    """Move credit to a workspace, or by a negative adjustment from it; once for each idempotency key.

    A grant may expire, a refund names its request. Raises TransferError (`billing.ledger.transfers`) with a text for staff.
    """
    if expires_at is not None and kind != Entry.Kind.GRANT:
        raise transfers.TransferError("only a grant can expire")
    if generation and kind != Entry.Kind.REFUND:
        raise transfers.TransferError("only a refund is of a request")
    more: dict[str, Any] = {} if expires_at is None else {"expires_at": expires_at}
    more |= {"generation": generation} if kind == Entry.Kind.REFUND else {}
    with transaction.atomic():
        # Two runs with one key wait for each other here, so that only one of them is audited.
        Account.objects.select_for_update().get(workspace=workspace)
        is_repeated = Entry.objects.filter(idempotency_key=idempotency_key).exists()
        if expires_at is not None and expires_at <= timezone.now() and not is_repeated:
            raise transfers.TransferError("the time at which it expires must be in the future")
        entry = _TRANSFERS[kind](
            workspace, amount_microcredits, idempotency_key=idempotency_key, actor=actor, reason=reason, **more
        )
        if not is_repeated:
            audit.record(
                f"credits.{kind}",
                actor=actor,
                workspace=workspace,
                target=workspace.public_id,
                reason=reason,
                details={
                    "amount_microcredits": amount_microcredits,
                    "entry": entry.pk,
                    **({} if expires_at is None else {"expires_at": moment_text(expires_at)}),
                    **({"generation": generation} if generation else {}),
                },
            )
            if amount_microcredits > 0:
                _tell_added(workspace, entry)
    return entry


def _tell_added(workspace: Workspace, entry: Entry) -> None:
    amount, kind = credits_text(entry.amount_microcredits), entry.get_kind_display()
    expires_at = moment_text(entry.expires_at) if entry.expires_at else None
    notices.publish(
        workspace,
        Notice.Kind.CREDITS_ADDED,
        title=f"{amount} credits were added to {workspace.name}",
        text=f"{amount} credits ({kind}) were added to {workspace.name}.",
        data={"credits": amount, "kind": entry.kind, "entry": entry.pk, "expires_at": expires_at},
        place="credits",
    )


def suspend(workspace: Workspace, *, actor: str, reason: str = "") -> bool:
    """Refuse the workspace's keys from now on. False if it was suspended already, or is closed."""
    return _move(workspace, {State.ACTIVE, State.STOPPED}, State.SUSPENDED, "workspace.suspended", actor, reason)


def activate(workspace: Workspace, *, actor: str, reason: str = "") -> bool:
    """Take a workspace back that was suspended, stopped or closed; its revoked keys stay so. False if it was active already."""
    return _move(workspace, set(State) - {State.ACTIVE}, State.ACTIVE, "workspace.activated", actor, reason)


def stop_spending(workspace: Workspace, *, actor: str) -> bool:
    """Refuse the workspace's keys until its members resume: streams end within seconds. False if it was not active."""
    return _move(workspace, {State.ACTIVE}, State.STOPPED, "workspace.stopped", actor)


def resume_spending(workspace: Workspace, *, actor: str) -> bool:
    """False if it was not its members who stopped it."""
    return _move(workspace, {State.STOPPED}, State.ACTIVE, "workspace.resumed", actor)


def close_workspace(workspace: Workspace, *, actor: str) -> bool:
    """End a workspace for its members: keys are revoked, invitations withdrawn, files go. False where staff suspended it.

    What was booked stays, and so does what is left of its credit: only staff can take the workspace back, or refund.
    """
    with transaction.atomic():
        if not _move(workspace, {State.ACTIVE, State.STOPPED}, State.CLOSED, "workspace.closed", actor):
            return False
        for key in ApiKey.objects.filter(workspace=workspace, revoked_at__isnull=True).order_by("pk"):
            revoke(key, actor=actor, reason="the workspace was closed")
        offered = Invitation.objects.filter(workspace=workspace, accepted_at__isnull=True, withdrawn_at__isnull=True)
        offered.update(withdrawn_at=timezone.now())
    return True


def keep_traces(workspace: Workspace, days: int, *, actor: str) -> None:
    """How long it is kept how requests went, 1 to 30 days; what is older goes within the hour. Raises ValidationError."""
    if not 1 <= days <= MOST_TRACE_DAYS:
        raise ValidationError({"days": f"Facts of a request are kept for 1 to {MOST_TRACE_DAYS} days."})
    with transaction.atomic():
        before = (
            Workspace.objects.select_for_update(no_key=True).values_list("traces_kept_days", flat=True).get(pk=workspace.pk)
        )
        if before != days:
            Workspace.objects.filter(pk=workspace.pk).update(traces_kept_days=days)
            details = {"days": [before, days]}
            audit.record(
                "workspace.retention_set", actor=actor, workspace=workspace, target=workspace.public_id, details=details
            )
    workspace.traces_kept_days = days


def _move(workspace: Workspace, among: set[State], state: State, action: str, actor: str, reason: str = "") -> bool:
    """False, and nothing is changed, where the workspace is in none of these states."""
    with transaction.atomic():
        if not Workspace.objects.filter(pk=workspace.pk, state__in=among).update(state=state):
            return False
        audit.record(action, actor=actor, workspace=workspace, target=workspace.public_id, reason=reason)
    workspace.state = state
    return True
