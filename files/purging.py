"""What has to be taken away: files that expired or whose workspace was closed, uploads that died, bytes that could not be destroyed, and orphans.

`purge` is housekeeping's: a few look-ups by index, and a bounded number of files each time. Orphans, bytes in the store that
no row answers for, come only from a database that was restored to an earlier moment, so only `manage.py purge_files` lists
the whole store for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from billing.models import Workspace
from files import keeping, pages, storage
from files.models import StoredFile

MOST_AT_ONCE = 200
UPLOAD_LIMIT = timedelta(hours=6)
"""No upload to the store takes so long: a pending row that is older belongs to a process that died."""


def purge() -> int:
    """End what has to end, and destroy what is left of what ended; a bounded number. Gives how many files were destroyed.

    Raises StorageUnavailable if the store destroys nothing.
    """
    now = timezone.now()
    is_expired = Q(state=StoredFile.State.READY, expires_at__lte=now)
    is_dead = Q(state=StoredFile.State.PENDING, created_at__lt=now - UPLOAD_LIMIT)
    is_left = Q(state=StoredFile.State.READY, workspace__in=Workspace.objects.filter(state=Workspace.State.CLOSED))
    for which in (is_expired | is_dead, is_left):
        for file in StoredFile.objects.filter(which)[:MOST_AT_ONCE]:
            keeping.end(file)
    # In any order, so that those which no round can destroy do not stand before all others for ever.
    left = StoredFile.objects.filter(state=StoredFile.State.DELETED, destroyed_at__isnull=True).order_by("?")
    return storage.destroy_each(left[:MOST_AT_ONCE], keeping.destroy)


def purge_orphans() -> int:
    """Destroy what is in the store without a row: files, and pages. Gives how many. Raises StorageUnavailable."""
    destroyed = 0
    for workspace in storage.workspaces():
        for names in _batches(storage.names(workspace)):
            rows = StoredFile.objects.filter(store_name__in=names, destroyed_at__isnull=True)
            # Asked after the names were listed: a row is there before its bytes.
            for orphan in sorted(set(names) - set(rows.values_list("store_name", flat=True))):
                storage.destroy(orphan)
                destroyed += 1
    for names in _batches(pages.stored_names()):
        destroyed += pages.destroy_orphans(names)
    return destroyed


def _batches(names: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for name in names:
        batch.append(name)
        if len(batch) == MOST_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
