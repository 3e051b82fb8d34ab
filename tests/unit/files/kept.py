"""Files of a workspace, stored without an upload."""

from __future__ import annotations

import hashlib
import tempfile
from typing import Any

from django.utils import timezone

from files import keeping
from files.models import StoredFile
from files.room import room_for
from tests.worlds import World


def new_file(data: bytes, **fields: Any) -> keeping.NewFile:
    values: dict[str, Any] = {
        "purpose": "user_data",
        "filename": "a.txt",
        "media_type": "text/plain",
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return keeping.NewFile(**(values | fields))


def keep(world: World, data: bytes = b"some text", **fields: Any) -> StoredFile:
    with tempfile.TemporaryFile() as content:
        content.write(data)
        workspace = world.workspace
        room = room_for(world.key.pk)
        return keeping.keep(workspace.pk, workspace.public_id, new_file(data, **fields), content, room, now=timezone.now())
