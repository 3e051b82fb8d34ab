"""How much a workspace may keep, and how much of that it keeps.

Limits come from the layers of the key (`billing.quotas`), and where no layer says anything from the settings, so that there
always is one. Room is taken by one conditional statement on the workspace's row of FileUsage, so of any number of uploads at
once none crosses a limit; whatever ends a file gives its room back in the transaction that ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from django.conf import settings
from django.db.models import F

from billing import quotas
from billing.alerts.judging import QuotaFact
from billing.models import ApiKey, Membership, Workspace
from files.errors import FileCountQuotaExceeded, StorageQuotaExceeded
from files.models import FileUsage


class Room(msgspec.Struct, frozen=True):
    """What was used when it was asked, and the limits of the key that asked."""

    used_files: int
    used_bytes: int
    most_files: int
    most_bytes: int
    most_file_bytes: int

    def check(self, size_bytes: int) -> None:
        """Raises the quota that a file of this size would cross, if it would."""
        if self.used_files >= self.most_files:
            raise FileCountQuotaExceeded(self.most_files)
        if self.used_bytes + size_bytes > self.most_bytes:
            raise StorageQuotaExceeded(self.most_bytes, self.used_bytes)


def room_for(api_key_id: int) -> Room:
    key = ApiKey.objects.select_related(*quotas.KEY_LAYERS).get(pk=api_key_id)
    return _room(key.workspace_id, quotas.of_key(key))


def room_of(member: Membership) -> Room:
    """For a person; he comes with his preset and the plan of his workspace."""
    return _room(member.workspace_id, quotas.of_member(member))


def quota_facts(workspaces: Sequence[Workspace], now: datetime) -> dict[int, list[QuotaFact]]:
    """What alerts judge (`billing.alerts.watching`), of those that ever kept something; they come with their plans. One query.

    The limits are those of the workspace: a member or a key may have tighter ones of his own.
    """
    usages = {usage.pk: usage for usage in FileUsage.objects.filter(pk__in=[one.pk for one in workspaces])}
    facts = {}
    for workspace in workspaces:
        if usage := usages.get(workspace.pk):
            room = _room_within(usage, quotas.of_workspace(workspace))
            files = QuotaFact("files", room.used_files, room.most_files)
            facts[workspace.pk] = [files, QuotaFact("storage", room.used_bytes, room.most_bytes)]
    return facts


def _room(workspace_id: int, limits: quotas.Effective) -> Room:
    return _room_within(FileUsage.objects.filter(workspace_id=workspace_id).first() or FileUsage(), limits)


def _room_within(usage: FileUsage, limits: quotas.Effective) -> Room:
    return Room(
        used_files=usage.files,
        used_bytes=usage.stored_bytes,
        most_files=_or(limits.max_files_per_workspace.value, settings.FILES_PER_WORKSPACE),
        most_bytes=_or(limits.max_storage_bytes_per_workspace.value, settings.STORAGE_BYTES_PER_WORKSPACE),
        most_file_bytes=min(_or(limits.max_file_size_bytes.value, settings.FILE_LIMIT_BYTES), settings.FILE_LIMIT_BYTES),
    )


def take(workspace_id: int, size_bytes: int, room: Room) -> None:
    """Room for one file, within the limits of `room`. Raises the quota that it would cross. Call it in a transaction."""
    FileUsage.objects.bulk_create([FileUsage(workspace_id=workspace_id)], ignore_conflicts=True)
    row = FileUsage.objects.filter(workspace_id=workspace_id)
    fits = row.filter(files__lt=room.most_files, stored_bytes__lte=room.most_bytes - size_bytes)
    if fits.update(files=F("files") + 1, stored_bytes=F("stored_bytes") + size_bytes):
        return
    usage = row.get()
    msgspec.structs.replace(room, used_files=usage.files, used_bytes=usage.stored_bytes).check(size_bytes)
    # Another file went between the two statements: what this one was refused for is what the limit was.
    raise StorageQuotaExceeded(room.most_bytes, usage.stored_bytes)


def give_back(workspace_id: int, size_bytes: int) -> None:
    """The room of one file. Call it in the transaction that ends the file."""
    row = FileUsage.objects.filter(workspace_id=workspace_id)
    row.update(files=F("files") - 1, stored_bytes=F("stored_bytes") - size_bytes)


def _or(limit: int | None, default: int) -> int:
    return default if limit is None else limit
