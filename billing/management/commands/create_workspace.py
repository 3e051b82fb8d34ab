"""`manage.py create_workspace NAME [--credits N] [--json]`: a workspace, its credits and its first key."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from billing import apikeys
from billing.management.amounts import credits_argument
from billing.models import Entry
from billing.pricing import credits_text
from billing.workspaces import create_workspace, transfer_credits

ACTOR = "create_workspace"


class Command(BaseCommand):
    help = "Creates a workspace with an API key, which is printed once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--credits", metavar="N", default="0", help="credits to start with (default: 0)")
        parser.add_argument("--json", action="store_true", help="print one line of JSON")

    def handle(self, *, name: str, credits: str, json: bool, **options: Any) -> None:
        amount_microcredits = credits_argument(credits, may_be_zero=True)
        try:
            with transaction.atomic():
                workspace = create_workspace(name, actor=ACTOR)
                if amount_microcredits:
                    transfer_credits(
                        workspace,
                        amount_microcredits,
                        kind=Entry.Kind.TOP_UP,
                        idempotency_key=f"{ACTOR}:{uuid.uuid4()}",
                        actor=ACTOR,
                        reason="initial credits",
                    )
                key, key_text = apikeys.mint(workspace, "default", actor=ACTOR)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        answer = {
            "workspace_id": workspace.public_id,
            "name": workspace.name,
            "credits": credits_text(amount_microcredits),
            "key": key_text,
            "key_hint": key.hint,
        }
        self._print(answer, is_json=json)

    def _print(self, answer: dict[str, str], *, is_json: bool) -> None:
        if is_json:
            self.stdout.write(json.dumps(answer))
            return
        self.stdout.write(f"Workspace {answer['name']}: {answer['workspace_id']}")
        self.stdout.write(f"Credits: {answer['credits']}")
        self.stdout.write(f"API key (shown only now): {answer['key']}")
