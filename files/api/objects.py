"""What the Files API shows: a file as OpenAI's clients know it, and how much room is left."""

from __future__ import annotations

from typing import Any

from files.models import StoredFile
from files.room import Room
from infery_site.errors import Header


def file_object(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.public_id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at.timestamp()),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "expires_at": int(file.expires_at.timestamp()) if file.expires_at else None,
    }


def room_headers(room: Room) -> list[Header]:
    return [
        ("x-storage-used-bytes", str(room.used_bytes)),
        ("x-storage-limit-bytes", str(room.most_bytes)),
        ("x-files-used", str(room.used_files)),
        ("x-files-limit", str(room.most_files)),
    ]
