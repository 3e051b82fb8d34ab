"""`manage.py load_catalog FILE.yaml [--prune]`: make the catalogue equal to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from chat.loading.file import CatalogFileError, read_catalog
from chat.loading.load import Report, load

_FILE_BYTES_MOST = 10_000_000


class Command(BaseCommand):
    help = "Loads providers, models, prices and fallback chains from a YAML file. Loading a file twice changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE.yaml")
        parser.add_argument(
            "--prune",
            action="store_true",
            help="also remove what the file does not name; providers and models with history are disabled instead",
        )

    def handle(self, *, file: Path, prune: bool, **options: Any) -> None:
        try:
            report = load(read_catalog(_text_of(file)), actor="load_catalog", is_pruning=prune)
        except CatalogFileError as error:
            raise CommandError("\n".join(f"{file}: {fault}" for fault in error.faults)) from error
        self._print(report)

    def _print(self, report: Report) -> None:
        for verb, lines in (
            ("created", report.created),
            ("changed", report.changed),
            ("disabled", report.disabled),
            ("removed", report.removed),
        ):
            for line in lines:
                self.stdout.write(f"{verb} {line}")
        for warning in report.warnings:
            self.stderr.write(self.style.WARNING(f"warning: {warning}"))
        self.stdout.write(", ".join(f"{count} {verb}" for verb, count in report.counts.items()))


def _text_of(file: Path) -> str:
    try:
        if file.stat().st_size > _FILE_BYTES_MOST:
            raise CommandError(f"{file} is larger than {_FILE_BYTES_MOST} bytes; is it a catalogue?")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is not UTF-8 text") from error
