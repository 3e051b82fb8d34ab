"""`manage.py grant WORKSPACE CREDITS --reason R [--expires T]`: credits that are given away."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.management.crediting import add_credit_arguments, add_credits
from billing.models import Entry
from billing.moments import MomentError, moment


class Command(BaseCommand):
    help = "Gives credits to a workspace. Each run gives them, unless an idempotency key says that it is the same one."

    def add_arguments(self, parser: CommandParser) -> None:
        add_credit_arguments(parser)
        parser.add_argument(
            "--expires", metavar="T", help="the last day on which they can be spent, or a time, in UTC (default: never)"
        )

    def handle(
        self, *, workspace: str, credits: str, reason: str, idempotency_key: str | None, expires: str | None, **options: Any
    ) -> None:
        try:
            expires_at = None if expires is None else moment(expires, is_end=True)
        except MomentError as error:
            raise CommandError(f"--expires: {error}.") from error
        self.stdout.write(
            add_credits(
                Entry.Kind.GRANT,
                workspace=workspace,
                credits=credits,
                reason=reason,
                idempotency_key=idempotency_key,
                expires_at=expires_at,
            )
        )
