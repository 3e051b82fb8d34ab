"""`manage.py compare_prices [--on DATE] [--json]`: the catalogue against the prices that providers publish; exits 1 on drift."""

from __future__ import annotations

import datetime
import importlib
import sys
from typing import TYPE_CHECKING, Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser

if TYPE_CHECKING:
    from chat.management.published import Comparison


class Command(BaseCommand):
    help = "Compares prices and context windows with the package genai-prices. Exits 1 where they differ."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--on", type=datetime.date.fromisoformat, metavar="DATE", help="the prices of this day; today's if absent"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")

    def handle(self, *args: Any, on: datetime.date | None, json: bool, **options: Any) -> None:
        try:
            published = importlib.import_module("chat.management.published")
        except ImportError as error:
            if error.name is None or error.name.partition(".")[0] != "genai_prices":
                raise
            message = (
                "There is nothing to compare with: the package genai-prices is not installed (it is in requirements-dev.txt)."
            )
            raise CommandError(message) from error
        comparison: Comparison = published.compare(on or datetime.datetime.now(datetime.UTC).date())
        if json:
            report = {"is_current": comparison.is_current, **msgspec.structs.asdict(comparison)}
            self.stdout.write(msgspec.json.encode(report).decode())
        else:
            self._print(comparison)
        if not comparison.is_current:
            sys.exit(1)

    def _print(self, comparison: Comparison) -> None:
        for one in comparison.differences:
            self.stdout.write(f"{one.model}: {one.field} is {one.ours}, the list has {one.listed}")
        for note in comparison.notes:
            self.stdout.write(f"note: {note}")
        for slug in comparison.unlisted:
            self.stdout.write(f"not listed: {slug}")
        count = len({one.model for one in comparison.differences})
        self.stdout.write(f"{len(comparison.compared)} compared with {comparison.source}, {count} differ")
