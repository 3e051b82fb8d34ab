"""`manage.py reconcile_ledger [--workspace W] [--json]`: proves the books; exits 1 when something is wrong."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError

from billing.ledger.reconcile import reconcile
from billing.workspaces import WorkspaceNotFound, get_workspace


class Command(BaseCommand):
    help = "Checks that every credit is explained. Exits 1 and lists what is wrong otherwise."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workspace", metavar="W", help="only this workspace: its public id, or a name that only one has")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        workspace_id = None
        if options["workspace"]:
            try:
                workspace_id = get_workspace(options["workspace"]).pk
            except WorkspaceNotFound as error:
                raise CommandError(str(error)) from error
        violations = reconcile(workspace_id=workspace_id)
        if options["json"]:
            self.stdout.write(msgspec.json.encode({"is_balanced": not violations, "violations": violations}).decode())
        else:
            for violation in violations:
                self.stdout.write(
                    f"{violation.check}: {violation.subject}: expected {violation.expected}, found {violation.found}"
                )
            self.stdout.write(f"{len(violations)} violations." if violations else "The books balance.")
        if violations:
            sys.exit(1)
