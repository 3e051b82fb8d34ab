"""The life of a stored file: its room and its row first, then its bytes; deleted, then destroyed.

A row is `pending` while its bytes go to the store and becomes `ready` when the store is known to have all of them. What ends
a file moves its row to `deleted`, once, and gives its room back in the same transaction; then its bytes are destroyed at once,
or if the store cannot do so, by `purge`. So there are no bytes without a row that answers for them.

Blocking: call it from threads.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import IO

import msgspec
import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from files import room, storage
from files.errors import StorageUnavailable
from files.models import StoredFile
from files.models.stored import new_file_id
from infery_site.failpoints import reach

log = structlog.get_logger(__name__)


class NewFile(msgspec.Struct, frozen=True):
    """What is known of a file once all of it has arrived."""

    purpose: str
    filename: str
    media_type: str
    size_bytes: int
    sha256: str
    expires_after_s: int | None = None


def keep(
    workspace_id: int,
    workspace_public_id: str,
    new: NewFile,
    content: IO[bytes],
    allowed: room.Room,
    *,
    now: datetime,
    note: Callable[[StoredFile], None] = lambda _: None,
) -> StoredFile:
    """Store a file. Raises the quota that it would cross, or StorageUnavailable; then nothing of it stays.

    `note` is called in the transaction that makes the file one that is found; what it raises ends the file.
    """
    with transaction.atomic():
        room.take(workspace_id, new.size_bytes, allowed)
        public_id = new_file_id()
        file = StoredFile.objects.create(
            public_id=public_id,
            workspace_id=workspace_id,
            purpose=new.purpose,
            filename=new.filename,
            media_type=new.media_type,
            size_bytes=new.size_bytes,
            sha256=new.sha256,
            store_name=f"{workspace_public_id}/{public_id}",
            created_at=now,
            expires_at=None if new.expires_after_s is None else now + timedelta(seconds=new.expires_after_s),
        )
    is_kept = False
    reach("files.pending")
    try:
        storage.put(file.store_name, content, file.size_bytes)
        reach("files.stored")
        with transaction.atomic():
            is_ready = bool(_of(file, StoredFile.State.PENDING).update(state=StoredFile.State.READY))
            if is_ready:
                file.state = StoredFile.State.READY
                note(file)
        is_kept = is_ready
        reach("files.kept")
    finally:
        # One that is ready all the same stays: its commit was not told, and a repeat may be told of the file.
        if not is_kept and not _of(file, StoredFile.State.READY).exists():
            end(file)
            destroy(file)  # also where somebody else has ended it, who may have done this before the bytes were there
    if not is_kept:
        raise StorageUnavailable  # the upload took so long that it was given up
    return file


def delete(file: StoredFile) -> bool:
    """End a file, and destroy its bytes. False if it had ended already."""
    is_first = end(file)
    if is_first:
        destroy(file)
    return is_first


def end(file: StoredFile) -> bool:
    """Nobody finds the file any more, and its room is free. False if it had ended already."""
    with transaction.atomic():
        rows = _of(file, StoredFile.State.PENDING, StoredFile.State.READY)
        is_first = bool(rows.update(state=StoredFile.State.DELETED, deleted_at=timezone.now()))
        if is_first:
            room.give_back(file.workspace_id, file.size_bytes)
    return is_first


def destroy(file: StoredFile) -> bool:
    """Destroy the bytes of a deleted file. False if the store could not: they are in no one's reach, and purged later."""
    reach("files.ended")
    try:
        storage.destroy(file.store_name)
    except StorageUnavailable:
        log.warning("the bytes of a deleted file are still stored", file=file.public_id)
        return False
    _of(file, StoredFile.State.DELETED).update(destroyed_at=timezone.now())
    return True


def _of(file: StoredFile, *states: StoredFile.State) -> QuerySet[StoredFile]:
    """The row, while it is in one of these states."""
    return StoredFile.objects.filter(pk=file.pk, state__in=states)
