"""`manage.py show_route MODEL [--workspace W]`: who would serve a model, and why not."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.workspaces import WorkspaceNotFound, get_workspace
from chat.routes import UnknownModel, describe_route


class Command(BaseCommand):
    help = "Shows the route of a model: its targets, its fallback chain, prices, and what keeps a part from being used."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", metavar="MODEL", help="slug of the model")
        parser.add_argument("--workspace", metavar="W", help="public id or name: shows its own chain where it has one")

    def handle(self, *, model: str, workspace: str | None, **options: Any) -> None:
        try:
            steps = describe_route(model, get_workspace(workspace) if workspace else None)
        except (UnknownModel, WorkspaceNotFound) as error:
            raise CommandError(str(error)) from error
        for step in steps:
            self.stdout.write(f"{step.depth}  {step.slug}  {step.note}")
            for target in step.targets:
                self.stdout.write(f"     {target.name}, {target.state}")
            if step.remark:
                self.stdout.write(f"     {step.remark}")
        if len(steps) == 1:
            self.stdout.write("no fallback chain")
