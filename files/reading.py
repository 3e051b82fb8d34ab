"""The bytes of a file, for a request that names it.

    file = await find_file(workspace_id, file_id, most_bytes=20_000_000)
    data, media_type, filename = await read_file(file)

Its size is known before it is read. What is wrong with the id is a ContentError, to be answered `at` the field in which it stood.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from functools import partial
from typing import NamedTuple

import structlog
from asgiref.sync import sync_to_async
from django.core.files.base import File
from django.db import Error as DatabaseFault
from django.db import close_old_connections
from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header

from billing.errors import LedgerUnavailable
from files import storage
from files.access import get_file
from files.errors import FileAboveLimit, FileNotFound, FileNotReady, StorageUnavailable
from files.models import StoredFile
from infery_site.patience import in_time

log = structlog.get_logger(__name__)


PIECE_BYTES = 256 * 1024


class FileContent(NamedTuple):
    data: bytes
    media_type: str
    filename: str


async def find_file(workspace_id: int, file_id: str, *, most_bytes: int) -> StoredFile:
    """A file of the workspace that can be read. Raises FileNotFound, FileNotReady or FileAboveLimit; LedgerUnavailable."""
    try:
        return await in_time(sync_to_async(_found, thread_sensitive=False)(workspace_id, file_id, most_bytes))
    except DatabaseFault as error:
        raise LedgerUnavailable from error


async def read_file(file: StoredFile) -> FileContent:
    """A file that was found, whole. Raises FileNotFound if it has ended since, StorageUnavailable; LedgerUnavailable."""
    try:
        return await storage.in_time(partial(_read, file), file.size_bytes)
    except DatabaseFault as error:
        raise LedgerUnavailable from error


def open_file(file: StoredFile) -> File[bytes]:
    """The bytes of a file that was found. Raises FileNotFound if it has ended since, StorageUnavailable if they are lost."""
    try:
        return storage.opened(file.store_name, file.size_bytes)
    except storage.Lost as error:
        if StoredFile.objects.filter(pk=file.pk, state=StoredFile.State.DELETED).exists():
            raise FileNotFound from error
        log.error("the store has lost a file", file=file.public_id)  # noqa: TRY400 - it has no more to say
        raise StorageUnavailable from error


async def pieces(file: StoredFile, content: File[bytes]) -> AsyncIterator[bytes]:
    """The bytes of a file that was opened, piece by piece; closes it.

    The last piece is given only when all are known to be what was stored, so that who gets other bytes misses some. Raises
    StorageUnavailable then, and when the store does not go on.
    """
    digest = hashlib.sha256()

    def read() -> bytes:
        with storage.answered("read"):
            piece: bytes = content.read(PIECE_BYTES)
        digest.update(piece)
        return piece

    try:
        piece = await storage.in_time(read)
        while following := await storage.in_time(read):
            yield piece
            piece = following
        _check(file, digest)
        yield piece
    finally:
        storage.let_go(content)


def content_response(file: StoredFile) -> StreamingHttpResponse:
    """A file to be saved, never to be shown. Raises FileNotFound if it has ended since it was found, StorageUnavailable."""
    content = storage.waited_for(partial(open_file, file), file.size_bytes, undo=storage.let_go)
    # Only whole pieces in a thread: Django would read a file that it is given to its end before it sends a byte.
    response = StreamingHttpResponse(pieces(file, content), content_type=file.media_type)
    response["content-length"] = str(file.size_bytes)
    response["content-disposition"] = content_disposition_header(as_attachment=True, filename=file.filename)
    response["cache-control"] = "private"
    return response


def _found(workspace_id: int, file_id: str, most_bytes: int) -> StoredFile:
    close_old_connections()
    try:
        file = get_file(workspace_id, file_id)
    finally:
        close_old_connections()
    if file is None:
        raise FileNotFound
    if file.state != StoredFile.State.READY:
        raise FileNotReady
    if file.size_bytes > most_bytes:
        raise FileAboveLimit
    return file


def _read(file: StoredFile) -> FileContent:
    with open_file(file) as content, storage.answered("read"):
        data = content.read()
    _check(file, hashlib.sha256(data))
    return FileContent(data, file.media_type, file.filename)


def _check(file: StoredFile, digest: hashlib._Hash) -> None:
    """Raises StorageUnavailable unless all bytes were what was stored."""
    if digest.hexdigest() != file.sha256:
        log.error("the store gives other bytes than it was given", file=file.public_id)
        raise StorageUnavailable
