"""`manage.py mint_key WORKSPACE [--name N] [--json]`: one more API key of a workspace."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import apikeys
from billing.workspaces import WorkspaceNotFound, get_workspace


class Command(BaseCommand):
    help = "Creates an API key, which is printed once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", metavar="WORKSPACE", help="public id, or a name that only one workspace has")
        parser.add_argument("--name", metavar="N", default="default", help="how people will call the key")
        parser.add_argument("--json", action="store_true", help="print one line of JSON")

    def handle(self, *, workspace: str, name: str, json: bool, **options: Any) -> None:
        try:
            key, key_text = apikeys.mint(get_workspace(workspace), name, actor="mint_key")
        except WorkspaceNotFound as error:
            raise CommandError(str(error)) from error
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self._print(
            {"workspace_id": key.workspace.public_id, "name": key.name, "key": key_text, "key_hint": key.hint}, is_json=json
        )

    def _print(self, answer: dict[str, str], *, is_json: bool) -> None:
        if is_json:
            self.stdout.write(json.dumps(answer))
        else:
            self.stdout.write(f"API key {answer['name']} (shown only now): {answer['key']}")
