"""`manage.py top_up WORKSPACE CREDITS --reason R`: credits that were paid for. They never expire."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from billing.management.crediting import add_credit_arguments, add_credits
from billing.models import Entry


class Command(BaseCommand):
    help = "Adds credits to a workspace. Each run adds them, unless an idempotency key says that it is the same one."

    def add_arguments(self, parser: CommandParser) -> None:
        add_credit_arguments(parser)

    def handle(self, *, workspace: str, credits: str, reason: str, idempotency_key: str | None, **options: Any) -> None:
        self.stdout.write(
            add_credits(Entry.Kind.TOP_UP, workspace=workspace, credits=credits, reason=reason, idempotency_key=idempotency_key)
        )
