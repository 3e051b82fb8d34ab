"""`manage.py reconcile_ledger [--workspace W] [--since DATE] [--json]`: proves the books; exits 1 when something is wrong."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError

from billing.ledger.reconcile import Violation, prove, unproven
from billing.moments import MomentError, moment, moment_text
from billing.workspaces import WorkspaceNotFound, get_workspace


class Command(BaseCommand):
    help = "Checks that every credit is explained. Exits 1 and lists what is wrong otherwise."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workspace", metavar="W", help="only this workspace: its public id, or a name that only one has")
        parser.add_argument(
            "--since",
            metavar="DATE",
            help="only what was booked since, such as 2026-11-25 or 2026-11-25T10:00:00Z; says what that leaves unproven",
        )
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            workspace = get_workspace(options["workspace"]) if options["workspace"] else None
            since = moment(options["since"]) if options["since"] else None
        except WorkspaceNotFound as error:
            raise CommandError(str(error)) from error
        except MomentError as error:
            raise CommandError(f"--since: {error}.") from error
        violations = prove(actor="reconcile_ledger", workspace=workspace, since=since)
        not_proven = unproven(workspace_id=workspace.pk if workspace else None, since=since)
        if options["json"]:
            answer = {
                "is_balanced": not violations,
                "since": moment_text(since) if since else None,
                "violations": violations,
                "not_proven": not_proven,
            }
            self.stdout.write(msgspec.json.encode(answer).decode())
        else:
            self._tell(violations, not_proven)
        if violations:
            sys.exit(1)

    def _tell(self, violations: list[Violation], not_proven: list[str]) -> None:
        for violation in violations:
            self.stdout.write(f"{violation.check}: {violation.subject}: expected {violation.expected}, found {violation.found}")
        if violations:
            self.stdout.write(f"{len(violations)} violations.")
        else:
            self.stdout.write("What was looked at balances." if not_proven else "The books balance.")
        for check in not_proven:
            self.stdout.write(f"Not proven: {check}.")
