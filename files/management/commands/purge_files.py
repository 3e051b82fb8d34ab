"""`manage.py purge_files`: takes away every file that has to go, and what is in the store without a row."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from files.errors import StorageUnavailable
from files.purging import purge, purge_orphans


class Command(BaseCommand):
    help = (
        "Destroys files that expired, uploads that died, and bytes in the store that no file answers for. "
        "The serving processes do all but the last as well."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        purged = 0
        try:
            while count := purge():
                purged += count
            orphans = purge_orphans()
        except StorageUnavailable as error:
            raise CommandError("The store cannot be reached, or refuses to delete; see the log.") from error
        self.stdout.write(f"{purged} files and {orphans} orphans purged.")
