"""`manage.py prepare [--json]`: makes the database ready to serve; what `run.py` calls before it starts the server.

Migrates. In an installation that has no workspace and no user yet, it also loads the shipped catalogue and makes what a
newcomer needs: a workspace with credits and a key, and a login of the staff admin, which owns the workspace. An installation in use is left alone.
"""

from __future__ import annotations

import io
import json
import secrets
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from billing.members import add_member
from billing.models import Membership, Workspace

DEMO_WORKSPACE = "Demo"
DEMO_CREDITS = 1000
ADMIN_USER = "admin"


class Command(BaseCommand):
    requires_system_checks = []  # they are for developers; here they would only delay the start
    help = "Migrates the database; fills an empty one with the shipped catalogue, a demo workspace and a staff user."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print what was made as one line of JSON")

    def handle(self, *args: Any, json: bool, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        made = {} if _is_in_use() else _fill()
        self._print(made, is_json=json)

    def _print(self, made: dict[str, str], *, is_json: bool) -> None:
        if is_json:
            self.stdout.write(json.dumps(made))
            return
        for name, value in made.items():
            self.stdout.write(f"{name}: {value}")


def _is_in_use() -> bool:
    return Workspace.objects.exists() or get_user_model().objects.exists()


def _fill() -> dict[str, str]:
    """What was made, with the secrets that are shown this once."""
    call_command("load_catalog", settings.BASE_DIR / "catalog.yaml", stdout=io.StringIO(), stderr=io.StringIO())
    output = io.StringIO()
    call_command("create_workspace", DEMO_WORKSPACE, credits=str(DEMO_CREDITS), json=True, stdout=output)
    workspace = json.loads(output.getvalue().strip().splitlines()[-1])
    password = secrets.token_urlsafe(15)
    admin = get_user_model().objects.create_superuser(ADMIN_USER, password=password)
    add_member(Workspace.objects.get(), admin, Membership.Role.OWNER, actor="command:prepare")
    return {
        "workspace": workspace["name"],
        "credits": workspace["credits"],
        "key": workspace["key"],
        "admin_user": ADMIN_USER,
        "admin_password": password,
    }
