"""`manage.py set_plan WORKSPACE (PLAN | --none) --reason R`: the plan of a workspace, with its limits and monthly credits."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.ledger.transfers import TransferError
from billing.models import Workspace
from billing.moments import moment_text
from billing.presets import PresetNotFound, get_preset, set_plan
from billing.pricing import credits_text
from billing.renewals import next_renewal
from billing.workspaces import WorkspaceNotFound, get_workspace


class Command(BaseCommand):
    help = "Gives a workspace its plan. The first credits come at once; those of another plan come with the next renewal."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", metavar="WORKSPACE", help="public id, or a name that only one workspace has")
        chosen = parser.add_mutually_exclusive_group(required=True)
        chosen.add_argument("plan", metavar="PLAN", nargs="?", help="public id or name of a preset")
        chosen.add_argument("--none", action="store_true", help="no plan any more")
        parser.add_argument("--reason", metavar="R", required=True, help="why, for the audit trail")

    def handle(self, *, workspace: str, plan: str | None, reason: str, **options: Any) -> None:
        if not reason.strip():
            raise CommandError("--reason must say something.")
        try:
            row = get_workspace(workspace)
            preset = None if plan is None else get_preset(plan, row)
            set_plan(row, preset, actor="set_plan", reason=reason.strip())
        except (WorkspaceNotFound, PresetNotFound) as error:
            raise CommandError(str(error)) from error
        except TransferError as error:
            raise CommandError(f"{error}.") from error
        row = Workspace.objects.select_related("plan", "account").get(pk=row.pk)
        renews_at = next_renewal(row)
        self.stdout.write(
            f"The plan of {row.name} ({row.public_id}) is {row.plan or 'none'}; "
            f"balance {credits_text(row.account.posted_microcredits)}"
            f"{'' if renews_at is None else f', renewed {moment_text(renews_at)}'}"
        )
