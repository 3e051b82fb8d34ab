"""What the commands share that add credits to a workspace."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.core.management.base import CommandError, CommandParser

from billing.ledger.transfers import TransferError
from billing.management.amounts import credits_argument
from billing.models import Entry
from billing.moments import moment_text
from billing.pricing import credits_text
from billing.workspaces import WorkspaceNotFound, get_workspace, transfer_credits


def add_credit_arguments(parser: CommandParser) -> None:
    parser.add_argument("workspace", metavar="WORKSPACE", help="public id, or a name that only one workspace has")
    parser.add_argument("credits", metavar="CREDITS", help="more than 0, at most six decimals")
    parser.add_argument("--reason", metavar="R", required=True, help="why, for the audit trail")
    parser.add_argument("--idempotency-key", metavar="K", help="such as a payment's number: the same key adds once")


def add_credits(
    kind: Entry.Kind,
    *,
    workspace: str,
    credits: str,
    reason: str,
    idempotency_key: str | None,
    expires_at: datetime | None = None,
) -> str:
    """Adds credits as the arguments say; what to tell of it. Raises CommandError."""
    amount_microcredits = credits_argument(credits)
    if not reason.strip():
        raise CommandError("--reason must say something.")
    try:
        row = get_workspace(workspace)
        entry = transfer_credits(
            row,
            amount_microcredits,
            kind=kind,
            idempotency_key=f"{kind.value}:{idempotency_key or uuid.uuid4()}",
            actor=kind.value,
            reason=reason.strip(),
            expires_at=expires_at,
        )
    except WorkspaceNotFound as error:
        raise CommandError(str(error)) from error
    except TransferError as error:
        raise CommandError(f"{error}.") from error
    row.account.refresh_from_db()
    until = "" if entry.expires_at is None else f" until {moment_text(entry.expires_at)}"
    return (
        f"{credits_text(entry.amount_microcredits)} credits added to {row.name} ({row.public_id}){until}; "
        f"balance {credits_text(row.account.posted_microcredits)}"
    )
