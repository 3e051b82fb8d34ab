"""The files of a workspace, and of no other: every look-up names the workspace first.

An id that is unknown, malformed, deleted, expired, or another workspace's is the same thing here: nothing.
"""

from __future__ import annotations

import re

from django.db.models import Q, QuerySet
from django.utils import timezone

from files.models import StoredFile

_ID = re.compile(r"file_[0-9A-Za-z]{22}")


def files_of(workspace_id: int) -> QuerySet[StoredFile]:
    """What the workspace has and can read."""
    return _living(workspace_id).filter(state=StoredFile.State.READY)


def get_file(workspace_id: int, file_id: str) -> StoredFile | None:
    """A file that can be read, or is still being uploaded."""
    return _living(workspace_id).filter(public_id=file_id).first() if _ID.fullmatch(file_id) else None


def get_readable(workspace_id: int, file_id: str) -> StoredFile | None:
    file = get_file(workspace_id, file_id)
    return file if file is not None and file.state == StoredFile.State.READY else None


def place_of(workspace_id: int, file_id: str) -> int | None:
    """Where a file stands in the order of the workspace's uploads, also when it is gone since a list showed it."""
    if not _ID.fullmatch(file_id):
        return None
    rows = StoredFile.objects.filter(workspace_id=workspace_id, public_id=file_id)
    return rows.values_list("pk", flat=True).first()


def _living(workspace_id: int) -> QuerySet[StoredFile]:
    is_in_time = Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now())
    return StoredFile.objects.filter(is_in_time, workspace_id=workspace_id).exclude(state=StoredFile.State.DELETED)
