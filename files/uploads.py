"""An upload, from the pieces of its body to a stored file.

The body is read as it comes, at most a piece of it in memory: the file goes to a nameless file on the disk while its size,
type and digest are found out, and from there to the store once all that can be wrong with it is known. Limits are looked at
while it comes, so that what cannot be kept is not waited for; they are kept when its room is taken (`files.room`).

With an Idempotency-Key a repeat gets the file of the first for 24 hours; the body that must be the same is the form as it was
understood, because clients draw a new boundary each time.
"""

from __future__ import annotations

import hashlib
from typing import IO

import msgspec

from billing.errors import InvalidValue, UnknownParameter
from files.errors import FileTooLarge, InvalidMultipart
from files.keeping import NewFile
from files.models import StoredFile
from files.multipart import Part, Reader
from files.naming import Kind, base_name
from files.room import Room
from infery_site.errors import ApiError

MOST_FIELD_BYTES = 1024
LEAST_EXPIRY_S = 3600
MOST_EXPIRY_S = 30 * 24 * 3600

FILE = "file"
PURPOSE = "purpose"
ANCHOR = "expires_after[anchor]"
SECONDS = "expires_after[seconds]"

_FIELDS = frozenset({PURPOSE, ANCHOR, SECONDS})


class Missing(ApiError):
    def __init__(self, param: str) -> None:
        super().__init__(400, "missing_required_parameter", f"{param} is required.", param=param)


class Form:
    """The form of one upload while it arrives; its file is written to `content`.

    `is_repeat_possible`: a repeat of an upload gets its answer although there may be no room for another file.
    """

    def __init__(self, boundary: bytes, content: IO[bytes], room: Room, *, is_repeat_possible: bool) -> None:
        self._reader = Reader(boundary)
        self._content = content
        self._room = room
        self._is_repeat_possible = is_repeat_possible
        self._fields: dict[str, bytearray] = {}
        self._field: bytearray | None = None
        self._file: Part | None = None
        self._kind = Kind()
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    def take(self, data: bytes) -> None:
        """The next piece of the body. Raises what is wrong with it, and OSError if there is no room for it."""
        for event in self._reader.feed(data):
            if isinstance(event, Part):
                self._begin(event)
            elif self._field is None:
                self._take_file(event)
            else:
                self._field += event
                if len(self._field) > MOST_FIELD_BYTES:
                    raise InvalidMultipart(f"a field other than the file may have at most {MOST_FIELD_BYTES} bytes")

    def judged(self) -> NewFile:
        """What was uploaded, when the body is over. Raises what is wrong with it."""
        if not self._reader.is_complete:
            raise InvalidMultipart("it ends before its closing boundary")
        if self._file is None:
            raise Missing(FILE)
        purpose = self._text(PURPOSE)
        if purpose is None:
            raise Missing(PURPOSE)
        if purpose not in StoredFile.Purpose.values:
            raise InvalidValue(f"purpose must be one of {', '.join(StoredFile.Purpose.values)}.", PURPOSE)
        expires_after_s = self._expiry()
        filename = base_name(self._file.filename or "")
        media_type = self._kind.judged(filename, self._file.media_type)
        self._content.flush()
        return NewFile(purpose, filename, media_type, self._size_bytes, self._digest.hexdigest(), expires_after_s)

    def _begin(self, part: Part) -> None:
        self._field = None
        if part.name == FILE:
            if self._file is not None:
                raise InvalidMultipart("there may be one file")
            self._file = part
        elif part.filename is not None:
            raise InvalidMultipart("the only file must be in the field 'file'")
        elif part.name not in _FIELDS:
            raise UnknownParameter(part.name)
        elif part.name in self._fields:
            raise InvalidMultipart("no field may be repeated")
        else:
            self._field = self._fields[part.name] = bytearray()

    def _take_file(self, data: bytes) -> None:
        self._size_bytes += len(data)
        if self._size_bytes > self._room.most_file_bytes:
            raise FileTooLarge(self._room.most_file_bytes)
        if not self._is_repeat_possible:
            self._room.check(self._size_bytes)
        self._kind.feed(data)
        self._digest.update(data)
        self._content.write(data)

    def _text(self, name: str) -> str | None:
        value = self._fields.get(name)
        return None if value is None else value.decode("utf-8", "replace")

    def _expiry(self) -> int | None:
        anchor, seconds = self._text(ANCHOR), self._text(SECONDS)
        if anchor is None and seconds is None:
            return None
        if anchor != "created_at":
            raise InvalidValue(f"{ANCHOR} must be created_at, and be given with {SECONDS}.", ANCHOR)
        is_number = seconds is not None and seconds.isascii() and seconds.isdigit() and len(seconds) <= len(str(MOST_EXPIRY_S))
        if seconds is None or not is_number or not LEAST_EXPIRY_S <= int(seconds) <= MOST_EXPIRY_S:
            raise InvalidValue(f"{SECONDS} must be a whole number from {LEAST_EXPIRY_S} to {MOST_EXPIRY_S}.", SECONDS)
        return int(seconds)


def fingerprint(new: NewFile) -> bytes:
    """What is the same when an upload is repeated."""
    return msgspec.json.encode(new)
