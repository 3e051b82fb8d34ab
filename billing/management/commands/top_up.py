"""`manage.py top_up WORKSPACE CREDITS --reason R`: credits that were paid for."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.ledger.transfers import TransferError
from billing.management.amounts import credits_argument
from billing.models import Entry
from billing.pricing import credits_text
from billing.workspaces import WorkspaceNotFound, get_workspace, transfer_credits


class Command(BaseCommand):
    help = "Adds credits to a workspace. Each run adds them, unless an idempotency key says that it is the same one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", metavar="WORKSPACE", help="public id, or a name that only one workspace has")
        parser.add_argument("credits", metavar="CREDITS", help="more than 0, at most six decimals")
        parser.add_argument("--reason", metavar="R", required=True, help="why, for the audit trail")
        parser.add_argument("--idempotency-key", metavar="K", help="such as a payment's number: the same key adds once")

    def handle(self, *, workspace: str, credits: str, reason: str, idempotency_key: str | None, **options: Any) -> None:
        amount_microcredits = credits_argument(credits)
        if not reason.strip():
            raise CommandError("--reason must say something.")
        try:
            row = get_workspace(workspace)
            entry = transfer_credits(
                row,
                amount_microcredits,
                kind=Entry.Kind.TOP_UP,
                idempotency_key=f"top_up:{idempotency_key or uuid.uuid4()}",
                actor="top_up",
                reason=reason.strip(),
            )
        except WorkspaceNotFound as error:
            raise CommandError(str(error)) from error
        except TransferError as error:
            raise CommandError(f"{error}.") from error
        row.account.refresh_from_db()
        self.stdout.write(
            f"{credits_text(entry.amount_microcredits)} credits added to {row.name} ({row.public_id}); "
            f"balance {credits_text(row.account.posted_microcredits)}"
        )
