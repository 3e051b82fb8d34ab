"""`manage.py verify_receipt FILE [--keys FILE]`: whether a receipt says what this gateway signed; exits 1 if not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.receipts import InvalidReceipt, UnreadableKeys, own_keys, read_key_set, verified

_MOST_BYTES: Final = 1024 * 1024


class Command(BaseCommand):
    help = "Verifies the signature of a receipt. Exits 1 if it is not valid."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="what GET /v1/generations/{id} answered; - for standard input")
        parser.add_argument("--keys", metavar="FILE", help="what GET /v1/receipt-keys answered (default: our own keys)")

    def handle(self, *, file: str, keys: str | None, **options: Any) -> None:
        try:
            known = own_keys() if keys is None else read_key_set(_read(keys))
        except UnreadableKeys as error:
            raise CommandError(f"{keys} cannot be used: it is {error}.") from error
        try:
            receipt = verified(_read(file), known)
        except InvalidReceipt as error:
            self.stdout.write(f"NOT VALID: {error}.")
            sys.exit(1)
        self.stdout.write(
            f"Valid: generation {receipt['id']} of workspace {receipt['workspace_id']} at {receipt['created_at']}, "
            f"{receipt['credits_used']} credits."
        )


def _read(name: str) -> bytes:
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            document = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}.") from error
    if len(document) > _MOST_BYTES:
        raise CommandError(f"{name} is larger than a receipt or a list of keys can be.")
    return document
